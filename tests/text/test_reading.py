import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quoth.text import reading
from quoth.text.reading import Encoding, UnreadableError, decoded, encoding_of, is_binary, lines, pieces, survey
from quoth.text.tokenizer import gpt2, train_bpe

SIZES = st.integers(1, 20)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
# Words, and all kinds of white space; Python counts \x1c and \x1f as such, GPT-2's split does not.
WORDS = st.text(st.sampled_from("ab.1'sé中🙂  \n\t\r\x0b\x1c\x1f\x85\xa0\u2028\u3000\u180e\u200b"), max_size=60)


def read(content, *, size, keep_newlines=True):
    """The pieces of a file with this content, read `size` bytes at a time."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        file = Path(name) / "0.txt"
        file.write_bytes(content)
        return list(pieces(decoded(file, encoding_of(file), keep_newlines=keep_newlines)))


@given(text=st.one_of(TEXTS, WORDS), size=SIZES)
def test_pieces_joined_are_the_file(text, size):
    text = text.removeprefix("\ufeff")
    parts = read(text.encode(), size=size)
    assert "".join(parts) == text
    assert all(parts)


@given(text=st.text(st.sampled_from("ab\r\n \u2028\x85"), max_size=40), size=SIZES)
def test_line_breaks_of_windows_become_those_of_all_others(text, size):
    assert "".join(read(text.encode(), size=size, keep_newlines=False)) == text.replace("\r\n", "\n")


@pytest.mark.parametrize("size", [1, 3, 2**20])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_mark_names_the_encoding_and_is_no_text(encoding, size):
    text = "größe 🙂 猫\r\nzwei"
    marked = ("" if encoding == "utf-8-sig" else "\ufeff") + text
    assert "".join(read(marked.encode(encoding), size=size)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Größe der Straße ist schön. Äpfel und Öl für Übermorgen, sagte „Anna“. " * 10, "cp1252"),
        ("Съешь же ещё этих мягких французских булок, да выпей чаю. " * 10, "cp1251"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 10, "shift_jis"),
        ("Voilà, l'été est déjà passé à la forêt. " * 10, "latin-1"),
        ("It’s a “quoted” text – with dashes. " * 10, "cp1252"),
        ("Zażółć gęślą jaźń, a potem idź do domu. " * 10, "cp1250"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy. " * 10, "cp1250"),
        ("Ο γρήγορος αλεπού πηδάει πάνω από τον σκύλο. " * 10, "cp1253"),
    ],
)
def test_what_is_not_utf8_is_guessed_and_said(tmp_path, text, encoding):
    file = tmp_path / "old.txt"
    file.write_bytes(text.encode(encoding))
    found = encoding_of(file)
    assert "".join(decoded(file, found)) == text
    assert "is not UTF-8" in found.remark
    assert found.name in found.remark


def test_damaged_utf8_stays_utf8_and_is_said(tmp_path):
    file = tmp_path / "damaged.txt"
    file.write_bytes("größe ".encode() * 100 + b"\xff" + "größe ".encode() * 100)
    found = encoding_of(file)
    assert found == Encoding(
        "utf-8",
        "replace",
        "is not all UTF-8 (the first fault is byte 800); what could not be read became U+FFFD",
    )
    assert "".join(decoded(file, found)) == "größe " * 100 + "\ufffd" + "größe " * 100


def test_without_the_guesser_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    (tmp_path / "old.txt").write_bytes(b"a caf\xe9 " * 40)
    with pytest.raises(UnreadableError, match=r"byte 5 is the first fault.*pip install 'quoth\[documents\]'"):
        encoding_of(tmp_path / "old.txt")


@given(texts=st.lists(st.text(st.sampled_from("ab\n"), max_size=6)))
def test_lines_of_a_text_in_parts(texts):
    assert list(lines(texts)) == "".join(texts).splitlines(keepends=True)


def test_memory_does_not_grow_with_the_file():
    text = "some words, and a line break\n" * 2000
    parts = read(text.encode(), size=100)
    assert len(parts) > 500
    assert max(map(len, parts)) < 200
    # Not even when a line never ends.
    assert max(map(len, read(b"word " * 2000, size=100))) < 200


@pytest.fixture(scope="module")
def bpes():
    mixed = "ab a.1 'sab\n\n  b.\x1c.\x1f a\u3000ab\t\ta 中 é 🙂 "
    return [train_bpe(330, iter([mixed * 5])), gpt2()]


@given(text=WORDS, size=SIZES)
@example(text="a.\x1cb", size=2)
@example(text="a  b", size=2)
@example(text="a\u180e\u200b.b", size=1)
def test_tokens_do_not_depend_on_the_pieces_size(bpes, text, size):
    parts = read(text.encode(), size=size)
    for tokenizer in bpes:
        apart = [i for part in parts for i in tokenizer.encode(part).tolist()]
        assert apart == tokenizer.encode(text).tolist()


@given(
    data=st.lists(
        st.sampled_from(
            [b"a ", b"\xc3\xa9", b"\xe4\xb8\xad", b"\xf0\x9f\x99\x82", b"\xff", b"\xc3", b"\xe4\xb8", b"\x80"]
        )
    ),
    size=SIZES,
)
def test_the_first_fault_has_its_place(data, size):
    data = b"".join(data)
    try:
        text, place = data.decode(), None
    except UnicodeDecodeError as error:
        text, place = "", error.start
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        file = Path(name) / "0.txt"
        file.write_bytes(data)
        try:
            said = encoding_of(file).remark
        except UnreadableError as error:
            said = str(error)
        if place is None:
            assert "".join(decoded(file, Encoding("utf-8"))) == text
            assert not said
        else:
            assert re.search(rf"byte {place}\b", said)


def test_a_fault_far_into_a_file_has_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 64)
    (tmp_path / "text").write_bytes("é ".encode() * 5000 + b"a\xff")
    assert "byte 15001" in encoding_of(tmp_path / "text").remark


def test_binary_files_are_known(tmp_path):
    (tmp_path / "0.txt").write_bytes(b"PK\x03\x04\0\0")
    assert is_binary(tmp_path / "0.txt")
    with pytest.raises(UnreadableError, match="looks like a binary file"):
        encoding_of(tmp_path / "0.txt")


@given(text=TEXTS.filter(lambda text: len(set(text)) > 1), size=SIZES)
def test_a_survey_counts(text, size):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        file = Path(name) / "text"
        file.write_bytes(text.encode())
        seen = survey(decoded(file, Encoding("utf-8"), keep_newlines=True))
    assert (seen.characters, seen.bytes, seen.lines) == (len(text), len(text.encode()), text.count("\n"))
    assert seen.alphabet == {c: text.count(c) for c in sorted(set(text))}
    assert list(seen.alphabet) == sorted(set(text))
    assert seen.first == text[:1000]


def test_the_first_of_a_long_text_is_kept():
    text = "".join(np.random.default_rng(0).choice(list("ab \n"), 5000))
    assert survey(text[i : i + 300] for i in range(0, 5000, 300)).first == text[:1000]
