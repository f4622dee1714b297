"""Tokenizers against those of others on made-up strings; $QUOTH_STRINGS says how many, $QUOTH_SEED which."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from typing import Any

import pytest
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str
from tokenizers import Tokenizer as Library
from transformers import PreTrainedTokenizerFast

from quoth.system.errors import InputError
from quoth.text.bpe import BPE
from quoth.text.pretrained import Pretrained
from quoth.text.sources import gpt2_files
from quoth.text.tokenizer import Bytes, Characters, Tokenizer, decode, gpt2, load, train_bpe

COUNT = int(os.environ.get("QUOTH_STRINGS", "3000"))
SEED = int(os.environ.get("QUOTH_SEED", "0"))
TEXT = """It's the cat's mat, isn't it? We've 1234 cats and they'll sit on 12 mats; Ça va très bien, où est le café?
Привет, мир! 你好，世界。 こんにちは 🙂🙂 👩‍👩‍👧‍👦 नमस्ते दुनिया مرحبا بالعالم e\u0301 ½ ²   \n\n\t runs   of    spaces """
ALPHABETS = {
    "ascii": "".join(map(chr, range(128))),
    "words": "aaeeiinnorstt  '.,\n",
    "contractions": "'ſstTrReEvVmMlLdD aZ",
    "digits": "0123456789 .,-²½٣४",
    "newlines": "\r\n\x0b\x0c\x85\u2028\u2029 \ta",
    "spaces": " \u00a0\u1680\u2003\u200b\u202f\u205f\u3000\ufeff\x1c\x1f\tab",
    "emoji": "🙂👍🏽👩👧\u200d❤\ufe0f🇩🇪🏴\U000e0067\U000e007f",
    "arabic": "ابتثجحخدذرزس\u064b\u064e\u0651\u0640 ٠١٢",
    "devanagari": "कखगघचछजनमस\u093e\u093f\u094d\u0902 ।०१२\u200c\u200d",
    "marks": "aeiouAO\u0300\u0301\u0302\u0308\u0327\u0338\u20d0 ",
    "hangul": "한글\u1112\u1161\u11ab\uac00 ",
    "nul": "\0\x01ab\x7f\x80\x9f ",
}


def strings(count: int, seed: int) -> list[str]:
    """Strings of one alphabet, of all code points, of long runs, and of these joined; some decomposed."""
    rng = random.Random(seed)

    def point() -> str:
        while 0xD800 <= (p := int(0x110000 * rng.random() ** rng.choice([1, 2, 4, 8]))) <= 0xDFFF:
            pass
        return chr(p)

    def one(deep: int = 0) -> str:
        how = rng.randrange(8)
        if how < 4:
            return "".join(rng.choices(rng.choice(list(ALPHABETS.values())), k=rng.randrange(24)))
        if how == 4:
            return "".join(point() for _ in range(rng.randrange(12)))
        if how == 5:
            return rng.choice(" \n\ta0'é🙂") * rng.choice([1, 2, 3, 5, 17, 64, 200])
        if how == 6:
            at = rng.randrange(len(TEXT))
            return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKD"]), TEXT[at : at + rng.randrange(30)])
        return "".join(one(deep + 1) for _ in range(rng.randrange(4))) if deep < 2 else ""

    return [one() for _ in range(count)]


MADE = strings(COUNT, SEED)


def pretrained(splitter: dict[str, Any], normalizer: dict[str, Any] | None = None) -> Tokenizer:
    document = json.loads(train_bpe(600, iter([TEXT * 3])).dump())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    size = len(document["model"]["vocab"])
    document["added_tokens"] = [
        {"id": size, "content": "<s>", **flags, "special": True},
        {"id": size + 1, "content": "a'", **flags, "special": False},
    ]
    made = load(json.dumps({**document, "pre_tokenizer": splitter, "normalizer": normalizer}))
    assert isinstance(made, Pretrained)
    return made


def check_round_trip(tokenizer: Tokenizer, texts: list[str]) -> None:
    for text in texts:
        ids = tokenizer.encode(text)
        assert decode(tokenizer, ids) == text, ascii(text)
        assert not set(ids.tolist()) & set(tokenizer.special.values())


def test_characters_and_bytes() -> None:
    check_round_trip(Bytes(), MADE)
    assert all(Bytes().encode(text).tolist() == list(text.encode()) for text in MADE)
    tokenizer = Characters("".join(MADE))
    check_round_trip(tokenizer, MADE)
    order = {c: i for i, c in enumerate(sorted(set("".join(MADE))))}
    assert all(tokenizer.encode(text).tolist() == [order[c] for c in text] for text in MADE)


@pytest.mark.parametrize("size", [300, 600, 2000])
def test_bpe_gives_the_ids_of_the_library(size: int) -> None:
    tokenizer = train_bpe(size, iter([TEXT * 3, "".join(MADE[:2000])]))
    assert isinstance(load(tokenizer.dump()), BPE)
    check_round_trip(tokenizer, MADE)
    library = Library.from_str(tokenizer.dump())
    for text, found in zip(MADE, library.encode_batch(MADE, add_special_tokens=False), strict=True):
        assert tokenizer.encode(text).tolist() == found.ids, ascii(text)


def test_gpt2_gives_the_ids_of_tiktoken(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    for name, data in zip(("encoder.json", "vocab.bpe"), gpt2_files(), strict=True):
        (tmp_path / name).write_bytes(data)
    ranks = data_gym_to_mergeable_bpe_ranks(str(tmp_path / "vocab.bpe"), str(tmp_path / "encoder.json"))
    theirs = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})
    tokenizer = gpt2()
    check_round_trip(tokenizer, MADE)
    for text in MADE:
        assert tokenizer.encode(text).tolist() == theirs.encode_ordinary(text), ascii(text)


SPLITTERS = {
    "digits": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    },
    "qwen2": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s+(?!\S)|\s+"},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    },
}


@pytest.mark.parametrize("split", SPLITTERS)
@pytest.mark.parametrize("form", [None, "NFC"])
def test_pretrained_gives_the_ids_of_transformers(split: str, form: str | None) -> None:
    tokenizer = pretrained(SPLITTERS[split], {"type": form} if form else None)
    theirs = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenizer.dump()))
    found = theirs(MADE, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    for text, ids in zip(MADE, found, strict=True):
        assert tokenizer.encode(text).tolist() == ids, ascii(text)
        assert decode(tokenizer, ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    if not form:
        check_round_trip(tokenizer, MADE)


def sentencepiece() -> dict[str, Any]:
    """A tokenizer as Llama 2 has: a space before the text, and bytes for characters that have no token."""
    letters = sorted({"▁", *"".join(MADE[:50]).replace(" ", "▁"), *TEXT[:80].replace(" ", "▁")} - {" "})
    learned = json.loads(train_bpe(500, iter(["aeinot hes rd " * 3 + TEXT[:100]])).dump())["model"]["merges"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = []
    for pair in learned:
        left, right = (part.replace("Ġ", "▁") for part in pair)
        if left in vocabulary and right in vocabulary:
            vocabulary.setdefault(left + right, len(vocabulary))
            merges.append([left, right])
    # With these a text could be merged to a special token.
    vocabulary |= {token: len(vocabulary) + n for n, token in enumerate(["<s", "</s"])}
    for token in ("<", "/", "s", ">", "</"):
        vocabulary.setdefault(token, len(vocabulary))
    merges += [["<", "s"], ["<s", ">"], ["<", "/"], ["</", "s"], ["</s", ">"]]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": tokens[i], **flags, "special": True} for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
        "model": {
            "type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>", "fuse_unk": True,
            "byte_fallback": True,
        },
    }  # fmt: skip


def test_sentencepiece_gives_the_ids_of_transformers() -> None:
    document = sentencepiece()
    tokenizer = load(json.dumps(document))
    theirs = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(json.dumps(document)))
    texts = [text for text in MADE if "▁" not in text]
    for text, ids in zip(texts, theirs(texts, split_special_tokens=True)["input_ids"], strict=True):
        assert tokenizer.encode(text).tolist() == ids, ascii(text)
        assert decode(tokenizer, ids) == (" " + text if text else "")
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    # transformers merges letters even to special tokens.
    for text in ("<s>", "</s>", "a <s></s>", "<unk>"):
        ids = tokenizer.encode(text).tolist()
        assert not {0, 1, 2} & set(ids)
        assert decode(tokenizer, ids) == " " + text


def test_lone_surrogates_are_refused_by_all() -> None:
    texts = [text[: len(text) // 2] + "\ud83d" + text[len(text) // 2 :] for text in MADE[:200]]
    tokenizers = [
        Bytes(),
        Characters("".join(MADE)),
        train_bpe(300, iter([TEXT])),
        gpt2(),
        pretrained(SPLITTERS["digits"]),
    ]
    for tokenizer in tokenizers:
        for text in texts:
            with pytest.raises(InputError, match=r"'\\ud83d' at position|alphabet"):
                tokenizer.encode(text)
