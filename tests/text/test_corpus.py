from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quoth.system.errors import InputError
from quoth.text import corpus as module
from quoth.text import reading
from quoth.text.corpus import corpus, find
from quoth.text.tokenizer import Bytes, Characters, decode

TEXT = "".join(np.random.default_rng(0).choice(list("abcé \n"), 4321))


@pytest.fixture
def file(tmp_path):
    (tmp_path / "some.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "some.txt"


@pytest.fixture
def no_tokenizing(monkeypatch):
    def refuse():
        def tokenize(*args):
            raise AssertionError("tokenized again")

        monkeypatch.setattr(module, "_tokenize", tokenize)

    return refuse


def texts(c):
    return decode(c.tokenizer, c.train), decode(c.tokenizer, c.validation)


def test_tiny_shakespeare_is_split_as_in_the_lecture():
    c = corpus("shakespeare")
    assert (c.name, len(c.train), len(c.validation)) == ("shakespeare", 1_003_854, 111_540)
    assert c.tokenizer.alphabet == "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert c.tokenizer.vocabulary == 65
    assert c.train.dtype == np.uint8
    # The lecture's first tensor.
    assert c.train[:11].tolist() == [18, 47, 56, 57, 58, 1, 15, 47, 58, 47, 64]
    assert "".join(texts(c)) == find("shakespeare")[1][0].read_text(encoding="utf-8")


def test_tiny_shakespeare_has_nanogpts_counts_of_gpt2_tokens():
    # https://github.com/karpathy/nanoGPT/blob/master/data/shakespeare/prepare.py, its last lines.
    c = corpus("shakespeare", "gpt2")
    assert (len(c.train), len(c.validation)) == (301_966, 36_059)
    assert c.train.dtype == np.uint16


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe:300", Characters("abcdeé \n"), Bytes()])
@pytest.mark.parametrize("size", [64, 10**6])
def test_the_first_nine_tenths_are_for_training(file, tmp_path, tokenizer, size, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    c = corpus(str(file), tokenizer, cache=tmp_path / "cache")
    cut = int(0.9 * len(TEXT))
    assert texts(c) == (TEXT[:cut], TEXT[cut:])
    assert c.name == "some"
    m = c.manifest
    assert (m["characters"], m["train_characters"]) == (len(TEXT), cut)
    assert (m["train_tokens"], m["validation_tokens"]) == (len(c.train), len(c.validation))
    assert (m["train_bytes"], m["validation_bytes"]) == (len(TEXT[:cut].encode()), len(TEXT[cut:].encode()))
    assert (m["tokenizer"], m["vocabulary"]) == (c.tokenizer.name, c.tokenizer.vocabulary)
    assert isinstance(c.train, np.memmap)
    assert isinstance(c.validation, np.memmap)


def test_bpe_learns_from_the_training_part_alone(tmp_path):
    (tmp_path / "text").write_text("ab ba " * 600 + "cd dc " * 66)
    pieces = corpus(str(tmp_path / "text"), "bpe:280", cache=tmp_path).tokenizer.pieces[256:]
    assert b"ab" in pieces
    assert not any(b"c" in piece for piece in pieces)


def test_characters_of_the_validation_part_are_in_the_alphabet(tmp_path):
    (tmp_path / "text").write_text("ab" * 50 + "z")
    assert corpus(str(tmp_path / "text"), cache=tmp_path).tokenizer.alphabet == "abz"


@pytest.mark.parametrize(
    ("vocabulary", "dtype"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_ids_take_as_few_bytes_as_they_can(tmp_path, vocabulary, dtype):
    alphabet = "".join(chr(0x10000 + i) for i in range(vocabulary))
    (tmp_path / "text").write_text(alphabet[:10] + alphabet[-10:], encoding="utf-8")
    c = corpus(str(tmp_path / "text"), Characters(alphabet), cache=tmp_path)
    assert c.train.dtype == dtype
    assert c.validation.tolist() == [vocabulary - 2, vocabulary - 1]


def test_what_was_tokenized_is_not_tokenized_again(file, tmp_path, no_tokenizing):
    first = corpus(str(file), "bytes", cache=tmp_path)
    no_tokenizing()
    again = corpus(str(file), "bytes", cache=tmp_path)
    assert np.array_equal(first.train, again.train)
    assert first.manifest == again.manifest
    # It is the content that counts.
    moved = file.rename(tmp_path / "moved")
    assert corpus(str(moved), "bytes", cache=tmp_path).name == "moved"
    for change in (
        lambda: corpus(str(moved), "characters", cache=tmp_path),
        lambda: corpus(str(moved), "bytes", separator="\n", cache=tmp_path),
        lambda: moved.write_text("changed") and corpus(str(moved), "bytes", cache=tmp_path),
    ):
        with pytest.raises(AssertionError, match="tokenized again"):
            change()


def test_a_failure_leaves_nothing_behind(file, tmp_path, monkeypatch):
    def build(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "build", build)
        with pytest.raises(KeyboardInterrupt):
            corpus(str(file), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
    assert len(corpus(str(file), cache=tmp_path / "cache").train) == int(0.9 * len(TEXT))


def folder_of_tokens(cache):
    (folder,) = (cache / "tokens").iterdir()
    return folder


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", None])
def test_damaged_tokens_are_refused(file, tmp_path, split, damage):
    corpus(str(file), cache=tmp_path / "cache")
    path = folder_of_tokens(tmp_path / "cache") / f"{split}.bin"
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(InputError, match=rf"{split}\.bin is damaged; delete .* and it will be made again\."):
        corpus(str(file), cache=tmp_path / "cache")


def test_a_damaged_manifest_is_refused(file, tmp_path):
    corpus(str(file), cache=tmp_path)
    manifest = folder_of_tokens(tmp_path) / "manifest.json"
    manifest.write_text(manifest.read_text()[:-5])
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        corpus(str(file), cache=tmp_path)


def test_a_folder_is_one_text(tmp_path):
    for name, text in {"b": "second\n", "a": "first", "c/d": "third"}.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(text)
    c = corpus(str(tmp_path / "texts"), "bytes", cache=tmp_path / "cache")
    assert "".join(texts(c)) == "first\nsecond\nthird"
    assert (c.name, len(c.manifest["sources"])) == ("texts", 3)


def test_files_of_one_name_are_all_sources(tmp_path):
    for folder, text in {"a": "first", "b": "second"}.items():
        (tmp_path / "texts" / folder).mkdir(parents=True)
        (tmp_path / "texts" / folder / "text").write_text(text)
    c = corpus(str(tmp_path / "texts"), "bytes", cache=tmp_path / "cache")
    assert list(c.manifest["sources"]) == ["a/text", "b/text"]


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(InputError) as error:
        corpus("shakespear", cache=tmp_path)
    assert str(error.value) == (
        "'shakespear' is neither a file or folder nor a named corpus (did you mean 'shakespeare'?)."
    )


def test_a_file_comes_before_a_named_corpus(tmp_path, monkeypatch):
    (tmp_path / "shakespeare").write_text("not his, but ours")
    monkeypatch.chdir(tmp_path)
    assert "".join(texts(corpus("shakespeare", cache=tmp_path / "cache"))) == "not his, but ours"


def test_a_file_that_may_not_be_read_is_refused(file, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"some\.txt cannot be read: Permission denied"):
        corpus(str(file), cache=tmp_path)


def test_text_that_is_not_quite_utf8_can_be_read_with_replacements(tmp_path):
    (tmp_path / "text").write_bytes(b"ab\xff" * 10)
    with pytest.raises(InputError, match="byte 2 is 0xff"):
        corpus(str(tmp_path / "text"), cache=tmp_path)
    assert "".join(texts(corpus(str(tmp_path / "text"), errors="replace", cache=tmp_path))) == "ab\ufffd" * 10


def slow_cut(text, separator, wanted):
    """Where the first document at or after `wanted` starts, else the last; a document has more than white space."""
    first, *documents = text.split(separator)
    starts, place = [], len(first)
    for document in documents:
        place += len(separator)
        if document.strip():
            starts.append(place)
        place += len(document)
    return next((start for start in starts if start >= wanted), starts[-1] if starts else None)


@given(
    text=st.lists(st.sampled_from(["a", "b", " ", "\n", "<>", "<", ">", "--", "é"]), max_size=30).map("".join),
    separator=st.sampled_from(["<>", "\n\n", "--", "a", "<><>", "\n", "a\n", "> <"]),
    share=st.floats(0, 1),
    size=st.integers(1, 9),
)
@example(text="xa\nya\nz", separator="a\n", share=0.5, size=1)
def test_with_a_separator_the_cut_is_between_two_documents(tmp_path_factory, text, separator, share, size):
    file = tmp_path_factory.mktemp("split") / "text"
    file.write_bytes(text.encode())
    wanted = int(share * len(text))
    cut = slow_cut(text, separator, wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", size)
        if cut is None:
            with pytest.raises(InputError, match="stands between no two documents"):
                module.between_documents([file], separator, wanted, "strict")
        else:
            assert module.between_documents([file], separator, wanted, "strict") == cut


@pytest.mark.parametrize("size", [7, 10**6])
@pytest.mark.parametrize("end", ["", "<|endoftext|>", "<|endoftext|>\n"])
def test_a_corpus_of_documents_is_split_between_two(tmp_path, size, end, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    documents = [f"Once upon a time, {i}." for i in range(40)]
    text = "<|endoftext|>".join(documents) + end
    (tmp_path / "text").write_text(text)
    c = corpus(str(tmp_path / "text"), separator="<|endoftext|>", cache=tmp_path / "cache")
    train, validation = texts(c)
    assert train + validation == text
    assert train.endswith("<|endoftext|>")
    assert validation.startswith("Once")
    assert 0.9 * len(text) <= len(train) < 0.93 * len(text)


def test_a_long_last_document_is_for_validation(tmp_path):
    text = "short<>" * 3 + "long " * 50 + "<>"
    (tmp_path / "text").write_text(text)
    assert texts(corpus(str(tmp_path / "text"), separator="<>", cache=tmp_path)) == ("short<>" * 3, "long " * 50 + "<>")


def test_a_separator_that_separates_nothing_is_refused(tmp_path):
    (tmp_path / "text").write_text("one document<>\n")
    for separator in ("<>", "<|endoftext|>"):
        with pytest.raises(InputError, match="stands between no two documents"):
            corpus(str(tmp_path / "text"), separator=separator, cache=tmp_path / "cache")


def test_batches_are_of_the_training_part(file, tmp_path):
    c = corpus(str(file), cache=tmp_path)
    (batch,) = c.batches(3, 8, seed=1)[0]
    assert batch.x_BT.shape == (3, 8)


def test_a_large_text_is_judged_by_its_last_part(tmp_path, monkeypatch):
    monkeypatch.setattr("quoth.text.corpus.LARGEST_VALIDATION", 100)
    (tmp_path / "large.txt").write_text("abcdefghij" * 1000)
    made = corpus(str(tmp_path / "large.txt"), cache=tmp_path / "cache")
    assert (len(made.train), len(made.validation)) == (9900, 100)
