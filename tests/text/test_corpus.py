import zipfile
from pathlib import Path

import numpy as np
import pytest

from quoth.system.errors import InputError
from quoth.text import corpus as module
from quoth.text import reading
from quoth.text.corpus import corpus
from quoth.text.finding import find
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
    assert "".join(texts(c)) == find("shakespeare").files["shakespeare.txt"].read_text(encoding="utf-8")


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


def test_a_folder_is_a_document_for_each_file(tmp_path):
    for name, text in {"b": "second\n", "a": "first", "c/d": "third"}.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(text)
    c = corpus(str(tmp_path / "texts"), "bytes", cache=tmp_path / "cache")
    # Three are too few to hold out a whole one.
    assert [c.manifest["documents"][key] for key in ("number", "formats")] == [3, {"text": 3}]
    assert "too few documents" in c.remarks[0]
    assert texts(c) == ("firs\n\nsecon\n\nthir\n\n", "t\n\nd\n\nd\n\n")
    assert (c.name, len(c.manifest["sources"])) == ("texts", 3)


def test_there_must_be_something_to_learn(tmp_path):
    (tmp_path / "text").write_text("")
    with pytest.raises(InputError, match=r"text is empty: there is nothing"):
        corpus(str(tmp_path / "text"), cache=tmp_path)
    (tmp_path / "text").write_text("aaaa")
    with pytest.raises(InputError, match=r"text holds one distinct character, 'a': nothing to learn"):
        corpus(str(tmp_path / "text"), cache=tmp_path)


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


@pytest.mark.parametrize("size", [7, 10**6])
@pytest.mark.parametrize("end", ["", "<|endoftext|>", "<|endoftext|>\n"])
def test_a_text_is_split_into_documents_where_the_separator_stands(tmp_path, size, end, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    documents = [f"Once upon a time, {i}." for i in range(40)]
    (tmp_path / "text").write_text("<|endoftext|>".join(documents) + end)
    c = corpus(str(tmp_path / "text"), separator="<|endoftext|>", cache=tmp_path / "cache")
    train, validation = (text.removesuffix("<|endoftext|>").split("<|endoftext|>") for text in texts(c))
    assert sorted(train + validation) == sorted(documents)
    assert len(validation) == 4
    assert c.manifest["documents"]["number"] == 40


def test_a_separator_that_separates_nothing_is_refused(tmp_path):
    (tmp_path / "text").write_text("one document<>\n")
    for separator in ("<>", "<|endoftext|>"):
        with pytest.raises(InputError, match="stands between no two documents"):
            corpus(str(tmp_path / "text"), separator=separator, cache=tmp_path / "cache")


def test_the_end_token_stands_after_every_document_and_nowhere_else(tmp_path):
    (tmp_path / "texts").mkdir()
    written = [f"Number {i} says <|endoftext|> in so many words." for i in range(30)]
    for i, text in enumerate(written):
        (tmp_path / "texts" / f"{i:02}.txt").write_text(text)
    c = corpus(str(tmp_path / "texts"), "gpt2", cache=tmp_path / "cache")
    ids = np.concatenate([c.train, c.validation])
    (ends,) = np.nonzero(ids == 50256)
    assert len(ends) == 30
    assert ids[-1] == 50256
    read = [decode(c.tokenizer, part[part != 50256]) for part in np.split(ids, ends + 1)[:-1]]
    assert sorted(read) == sorted(written)


def test_a_single_text_has_no_end_token(file, tmp_path):
    c = corpus(str(file), "gpt2", cache=tmp_path / "cache")
    assert "".join(texts(c)) == TEXT


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe:300"])
@pytest.mark.parametrize("separator", ["", "<end>\n"])
def test_without_an_end_token_text_stands_between(tmp_path, tokenizer, separator):
    (tmp_path / "texts").mkdir()
    for i in range(20):
        (tmp_path / "texts" / f"{i:02}.txt").write_text(f"\nnumber {i}\n\n")
    c = corpus(str(tmp_path / "texts"), tokenizer, separator=separator, cache=tmp_path / "cache")
    joined = "".join(texts(c))
    end = separator or "\n\n"
    assert joined.endswith(end)
    assert sorted(joined.removesuffix(end).split(end)) == sorted(f"number {i}" for i in range(20))


def test_all_that_decides_the_tokens_is_in_the_key(tmp_path, no_tokenizing, monkeypatch):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("text,more\none,two\nthree,four\n")
    (tmp_path / "texts" / "b.txt").write_text("five\r\nsix")
    data = str(tmp_path / "texts")
    corpus(data, "bytes", cache=tmp_path)
    no_tokenizing()
    corpus(data, "bytes", cache=tmp_path)
    for change in ({"column": "more"}, {"keep_newlines": True}, {"separator": "i"}):
        with pytest.raises(AssertionError, match="tokenized again"):
            corpus(data, "bytes", cache=tmp_path, **change)
    monkeypatch.setattr("quoth.text.corpus.metadata.version", lambda package: "another")
    with pytest.raises(AssertionError, match="tokenized again"):
        corpus(data, "bytes", cache=tmp_path)


def test_nothing_unpacked_is_left_behind(tmp_path):
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "one of two")
        archive.writestr("b.txt", "two of two")
    corpus(str(tmp_path / "texts.zip"), "bytes", cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "reading").iterdir()) == []


def test_batches_are_of_the_training_part(file, tmp_path):
    c = corpus(str(file), cache=tmp_path)
    (batch,) = c.batches(3, 8, seed=1)[0]
    assert batch.x_BT.shape == (3, 8)


def test_a_large_text_is_judged_by_its_last_part(tmp_path, monkeypatch):
    monkeypatch.setattr("quoth.text.documents.LARGEST_VALIDATION", 100)
    (tmp_path / "large.txt").write_text("abcdefghij" * 1000)
    made = corpus(str(tmp_path / "large.txt"), cache=tmp_path / "cache")
    assert (len(made.train), len(made.validation)) == (9900, 100)
