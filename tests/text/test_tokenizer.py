import json
import string
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace

from quoth.system.errors import InputError
from quoth.text.bpe import without_long_words
from quoth.text.sources import gpt2_files
from quoth.text.tokenizer import BPE, Bytes, Characters, build, decode, gpt2, load, read, spelling, train_bpe

TEXT = """It's the cat's mat, isn't it? We've 1234 cats and they'll sit on 12 mats.

    Ça va très bien, où est le café? Привет, мир! 你好，世界。 こんにちは 🙂🙂 ½ ²

Tabs\tand  runs   of    spaces \n\n\n  end """

# Letters, digits, marks and every kind of white space, and what Python alone takes for white space.
MIXED = st.text(
    st.sampled_from("aabbc  \n\t\r'sd.,1²é中🙂́\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000\u180e\u200b"), max_size=40
)
ANY = st.one_of(st.text(), MIXED)


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(500, iter([TEXT * 3]))


@pytest.fixture(scope="module")
def dense():
    """Many merges over few letters, so that pairs compete and overlap."""
    words = "".join(np.random.default_rng(0).choice(list("aaab  "), 20_000))
    return train_bpe(700, iter([words]))


@pytest.fixture(scope="module")
def original():
    return gpt2()


@given(text=ANY)
def test_bytes_and_bpe_keep_every_text(bpe, original, text):
    for tokenizer in (Bytes(), bpe, original):
        ids = tokenizer.encode(text)
        assert decode(tokenizer, ids) == text
        assert ids.dtype == np.int64
        assert ids.size == 0 or 0 <= ids.min() <= ids.max() < tokenizer.vocabulary == len(tokenizer.pieces)


@given(text=st.text(min_size=1))
def test_characters_keep_every_text_of_their_alphabet(text):
    tokenizer = Characters(text)
    ids = tokenizer.encode(text)
    assert decode(tokenizer, ids) == text
    assert ids.dtype == np.int64
    assert sorted(set(ids.tolist())) == list(range(tokenizer.vocabulary))
    assert [tokenizer.alphabet[i] for i in ids] == list(text)


def test_characters_are_numbered_as_in_the_lecture():
    assert Characters("hello").alphabet == "ehlo"
    assert Characters("b\na").encode("a\nb").tolist() == [1, 0, 2]


def test_unknown_characters_are_named_with_their_places():
    tokenizer = Characters(string.ascii_lowercase)
    with pytest.raises(InputError, match=r"^The characters 'É' at position 1, '!' at position 4 are not in .* of 26;"):
        tokenizer.encode("aÉbc!")
    with pytest.raises(InputError, match=r"'4' at position 4 and 2 more are"):
        tokenizer.encode("0123456")
    with pytest.raises(InputError, match="'x' at position 0"):
        Characters("").encode("x")
    assert Characters("").encode("").size == 0


def test_half_a_character_is_refused():
    # A command line hands over bytes that are not UTF-8 as lone surrogates.
    for tokenizer in (Characters("ab"), Bytes(), train_bpe(257, iter(["aa"])), gpt2()):
        with pytest.raises(InputError, match="position 1"):
            tokenizer.encode("a\udcff")


def test_bytes_that_are_not_utf8_are_shown_as_such():
    assert decode(Bytes(), [0x61, 0xFF, 0x62, 0xC3]) == "a\ufffdb\ufffd"
    assert decode(Bytes(), []) == ""


def check_against_hugging_face(tokenizer, text):
    theirs = HuggingFace.from_str(tokenizer.dump())
    assert tokenizer.encode(text).tolist() == theirs.encode(text, add_special_tokens=False).ids
    assert theirs.get_vocab_size() == tokenizer.vocabulary


@given(text=ANY)
def test_bpe_gives_the_ids_of_hugging_face(bpe, text):
    check_against_hugging_face(bpe, text)


@given(text=st.text("ab ", max_size=80))
def test_overlapping_merges_give_the_ids_of_hugging_face(dense, text):
    assert dense.vocabulary > 600
    check_against_hugging_face(dense, text)


def test_a_long_text_gives_the_ids_of_hugging_face(bpe, dense):
    check_against_hugging_face(bpe, TEXT * 20)
    check_against_hugging_face(dense, "".join(np.random.default_rng(1).choice(list("aab  "), 20_000)))


@pytest.fixture(scope="module")
def tiktokens_gpt2(tmp_path_factory):
    """GPT-2 as tiktoken defines it, from the two files that it would download."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import r50k_pat_str

    folder = tmp_path_factory.mktemp("gpt2")
    for name, data in zip(("encoder.json", "vocab.bpe"), gpt2_files(), strict=True):
        (folder / name).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    return tiktoken.Encoding(
        "gpt2", explicit_n_vocab=50257, pat_str=r50k_pat_str, mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
    )  # fmt: skip


@given(text=ANY)
def test_gpt2_is_that_of_tiktoken(original, tiktokens_gpt2, text):
    assert original.encode(text).tolist() == tiktokens_gpt2.encode_ordinary(text)


def test_gpt2_pieces_are_those_of_tiktoken(original, tiktokens_gpt2):
    assert original.vocabulary == tiktokens_gpt2.n_vocab == 50257
    assert original.pieces[:-1] == [tiktokens_gpt2.decode_single_token_bytes(i) for i in range(50256)]


def test_gpt2_is_that_of_hugging_face(original):
    check_against_hugging_face(original, TEXT)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [15496, 995]),
        ("Hello, I'm a language model,", [15496, 11, 314, 1101, 257, 3303, 2746, 11]),
        ("\n\n", [628]),
        (" ", [220]),
        ("", []),
    ],
)
def test_gpt2_gives_known_ids(original, text, ids):
    assert original.encode(text).tolist() == ids


def test_special_tokens_have_an_id_but_are_not_made_from_text(original):
    assert original.special == {"<|endoftext|>": 50256}
    ids = original.encode("a<|endoftext|>b")
    assert 50256 not in ids
    assert decode(original, ids) == "a<|endoftext|>b"
    assert decode(original, [64, 50256, 65]) == "ab"
    assert spelling(original, 50256) == b"<|endoftext|>"


def tokenizers(request):
    return [
        Characters('né\n\0\u2028\U0001f642"\\'),
        Bytes(),
        Characters("né\n<|>edn", special=["<|end|>", "<é>"]),
        Bytes(["<|user|>", "<|end|>"]),
        request.getfixturevalue("bpe"),
        request.getfixturevalue("original"),
    ]


def test_dump_and_load_give_the_same_tokenizer(request, tmp_path):
    for tokenizer in tokenizers(request):
        (tmp_path / "tokenizer.json").write_text(tokenizer.dump(), encoding="utf-8")
        for again in (load(tokenizer.dump()), read(tmp_path)):
            assert type(again) is type(tokenizer)
            assert (again.name, again.vocabulary) == (tokenizer.name, tokenizer.vocabulary)
            assert (again.pieces, again.special) == (tokenizer.pieces, tokenizer.special)
            assert again.dump() == tokenizer.dump()
            text = "né\n" if isinstance(tokenizer, Characters) else TEXT
            assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_special_tokens_follow_the_others_and_are_not_made_from_text():
    characters, of_bytes = Characters("<|end> a", special=["<|end|>"]), Bytes(["<|user|>", "<|end|>"])
    assert (characters.special, characters.vocabulary) == ({"<|end|>": 8}, 9)
    assert (of_bytes.special, of_bytes.vocabulary) == ({"<|user|>": 256, "<|end|>": 257}, 258)
    for tokenizer in (characters, of_bytes):
        ids = tokenizer.encode("<|end|> a").tolist()
        assert not set(ids) & set(tokenizer.special.values())
        end = tokenizer.special["<|end|>"]
        assert decode(tokenizer, [*ids, end]) == "<|end|> a"
        assert spelling(tokenizer, end) == b"<|end|>"
        assert len(tokenizer.pieces) == tokenizer.vocabulary
    with pytest.raises(InputError, match="alphabet of 8;"):
        characters.encode("z")


def test_tokenizers_that_were_saved_without_special_tokens_are_read():
    assert load('{"quoth": "characters", "alphabet": "abc"}').special == {}
    assert load('{"quoth": "bytes"}').vocabulary == 256
    assert Bytes().dump() == '{"quoth": "bytes"}'
    assert json.loads(Characters("a").dump()) == {"quoth": "characters", "alphabet": "a"}


@pytest.mark.parametrize("special", ['["a", "a"]', '[""]', "[3]", "3", '"ab"', "null", '["\\ud800"]'])
def test_damaged_special_tokens_are_refused(special):
    for saved in ('{"quoth": "bytes"', '{"quoth": "characters", "alphabet": "abc"'):
        with pytest.raises(InputError, match="not a tokenizer that quoth can read"):
            load(f'{saved}, "special": {special}}}')


def test_merges_may_be_written_as_strings(bpe):
    document = json.loads(bpe.dump())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    assert load(json.dumps(document)).encode(TEXT).tolist() == bpe.encode(TEXT).tolist()


def test_only_gpt2_itself_is_called_gpt2(original):
    """The name is what makes the tokenizer again."""
    assert load(original.dump()).name == "gpt2"
    document = json.loads(original.dump())
    vocabulary = document["model"]["vocab"]
    vocabulary["Ġthe"], vocabulary["Ġof"] = vocabulary["Ġof"], vocabulary["Ġthe"]
    assert load(json.dumps(document)).name == "pretrained"
    small = json.loads(train_bpe(300, iter([TEXT])).dump())
    size = len(small["model"]["vocab"])
    small["added_tokens"] = [{**document["added_tokens"][0], "id": size}]
    assert (load(json.dumps(small)).vocabulary, load(json.dumps(small)).name) == (size + 1, "pretrained")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"quoth": "characters"}', '{"model": 3}'])
def test_what_is_no_tokenizer_is_refused(text):
    with pytest.raises(InputError, match=r"not a tokenizer that quoth can read|is an object with a model"):
        load(text)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no tokenizer: No such file"):
        read(tmp_path)


def test_damaged_files_of_a_tokenizer_are_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(Bytes().dump())
    for said in ("[]", "3", "{}", '{"begins": []}'):
        (tmp_path / "chat.json").write_text(said)
        with pytest.raises(InputError, match="does not say begins, ends and template"):
            read(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff{}")
    with pytest.raises(InputError, match="holds no tokenizer: 'utf-8' codec"):
        read(tmp_path)


def test_training_is_repeatable(bpe):
    assert train_bpe(500, iter([TEXT] * 3)).dump() == train_bpe(500, iter([TEXT] * 3)).dump()
    assert train_bpe(500, iter([TEXT * 3])).dump() == bpe.dump()


def test_a_short_text_gives_fewer_tokens():
    tokenizer = train_bpe(5000, iter(["aaaa bbbb"]))
    assert 257 <= tokenizer.vocabulary < 270
    assert tokenizer.name == f"bpe:{tokenizer.vocabulary}"


def test_merges_follow_the_counts():
    tokenizer = train_bpe(258, iter(["ab ab ab abc abc"]))
    assert tokenizer.pieces[256:] == [b"ab", b" ab"]


def test_build_makes_what_is_named(bpe):
    def texts():
        return iter([TEXT * 3])

    assert build("characters", "cab", texts).dump() == Characters("abc").dump()
    assert isinstance(build("bytes", "", texts), Bytes)
    assert build("bpe:500", "", texts).dump() == bpe.dump()
    assert isinstance(build("gpt2", "", texts), BPE)
    for spec in ("bpe", "bpe:", "bpe:x", "bpe:-3", "characters:3", "chars", ""):
        with pytest.raises(InputError, match=r"--tokenizer must be characters, bytes, bpe:N .* not '"):
            build(spec, "", texts)
    with pytest.raises(InputError, match="at least 257 tokens, the 256 bytes and a merge, not 256"):
        build("bpe:256", "", texts)


def test_long_runs_of_one_character_are_quick(bpe):
    for run in (" " * 100_000 + "a", "a" * 100_000, "\n" * 100_000):
        assert decode(bpe, bpe.encode(run)) == run


@pytest.mark.parametrize("character", [" ", "\n"])
def test_a_million_spaces_in_a_row_are_refused_in_a_sentence(character: str) -> None:
    with pytest.raises(InputError, match="about a million spaces or line breaks in a row"):
        gpt2().encode(character * 1_100_000)


@pytest.mark.parametrize("character", ["a", " "])
def test_one_endless_word_does_not_hold_up_learning(character: str) -> None:
    began = time.process_time()
    train_bpe(300, iter([character * 400_000]))
    assert time.process_time() - began < 20
    parts = list(without_long_words("to be " + character * 9_000 + " or not"))
    assert "".join(parts) == "to be " + character * 9_000 + " or not"
    assert len(parts) == 3
