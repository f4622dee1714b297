import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quoth.system.errors import InputError
from quoth.text import reading
from quoth.text.reading import pieces, survey, text_files
from quoth.text.tokenizer import gpt2, train_bpe

SIZES = st.integers(1, 20)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
# Words, and all kinds of white space; Python counts \x1c and \x1f as such, GPT-2's split does not.
WORDS = st.text(st.sampled_from("ab.1'sé中🙂  \n\t\r\x0b\x1c\x1f\x85\xa0\u2028\u3000\u180e\u200b"), max_size=60)


def read(*contents, size, errors="strict"):
    """The pieces of files with these contents, read `size` bytes at a time."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        files = [Path(name) / f"{i}.txt" for i in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        return list(pieces(files, errors))


@given(text=st.one_of(TEXTS, WORDS), size=SIZES)
def test_pieces_joined_are_the_file(text, size):
    parts = read(text.encode(), size=size)
    assert "".join(parts) == text
    assert all(parts)


@given(texts=st.lists(WORDS, min_size=2, max_size=4), size=SIZES)
def test_files_follow_one_another_with_a_line_break_between(texts, size):
    wanted = texts[0]
    for text in texts[1:]:
        wanted += ("" if wanted.endswith("\n") else "\n") + text
    assert "".join(read(*(text.encode() for text in texts), size=size)) == wanted


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


def refused_at(data):
    """The byte at which Python's own decoder stops, or None."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


@given(
    data=st.lists(
        st.sampled_from(
            [b"a ", b"\xc3\xa9", b"\xe4\xb8\xad", b"\xf0\x9f\x99\x82", b"\xff", b"\xc3", b"\xe4\xb8", b"\x80"]
        )
    ),
    size=SIZES,
)
def test_what_is_not_utf8_is_refused_with_its_place(data, size):
    data = b"".join(data)
    if (place := refused_at(data)) is None:
        assert "".join(read(data, size=size)) == data.decode()
    else:
        with pytest.raises(InputError, match=rf"0\.txt is not UTF-8: byte {place} is 0x{data[place]:02x};"):
            read(data, size=size)
    assert "".join(read(data, size=size, errors="replace")) == data.decode(errors="replace")


def test_a_fault_far_into_a_file_has_its_place_in_that_file():
    good = "é ".encode() * 5000
    with pytest.raises(InputError, match=rf"1\.txt is not UTF-8: byte {len(good) + 1} is 0xff"):
        read(b"before", good + b"a\xff", size=64)


def test_binary_files_are_refused():
    for errors in ("strict", "replace"):
        with pytest.raises(InputError, match=r"0\.txt looks like a binary file"):
            read(b"PK\x03\x04\0\0", size=1000, errors=errors)


def test_a_file_that_goes_away_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.txt cannot be read: No such file or directory\."):
        list(pieces([tmp_path / "gone.txt"]))


@given(text=TEXTS.filter(lambda text: len(set(text)) > 1), size=SIZES)
def test_a_survey_counts(text, size):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        file = Path(name) / "text"
        file.write_bytes(text.encode())
        seen = survey([file])
    assert (seen.characters, seen.bytes, seen.lines) == (len(text), len(text.encode()), text.count("\n"))
    assert seen.alphabet == {c: text.count(c) for c in sorted(set(text))}
    assert list(seen.alphabet) == sorted(set(text))
    assert seen.first == text[:1000]


def test_the_first_of_a_long_text_is_kept(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("ab \n"), 5000))
    (tmp_path / "text").write_text(text)
    assert survey([tmp_path / "text"]).first == text[:1000]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", r"text is empty: there is nothing"), ("aaaa", r"text holds one distinct character, 'a': nothing to learn")],
)
def test_there_must_be_something_to_learn(tmp_path, text, sentence):
    (tmp_path / "text").write_text(text)
    with pytest.raises(InputError, match=sentence):
        survey([tmp_path / "text"])


def test_a_folder_is_its_files_in_order(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.txt", ".hidden", "a/.hidden", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [str(file.relative_to(tmp_path)) for file in text_files(tmp_path)] == ["a/b.txt", "a/z.txt", "b.txt"]
    assert text_files(tmp_path / "b.txt") == [tmp_path / "b.txt"]
    assert text_files(tmp_path / ".hidden") == [tmp_path / ".hidden"]
    # A folder may itself lie in a hidden one.
    assert text_files(tmp_path / ".git") == [tmp_path / ".git" / "config"]


def test_a_folder_without_files_and_no_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no files"):
        text_files(tmp_path)
    with pytest.raises(InputError, match=r"There is no file or folder .*nothing"):
        text_files(tmp_path / "nothing")
