"""Added and special tokens: the ids of transformers, and no way from a text to a special token."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from interop.test_hugging_face import ACCENTED, TEXT, bpe, made
from tokenizers import Tokenizer as Library
from transformers import AutoTokenizer

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.interop.export import export_gguf, export_hf
from quoth.interop.gguf_file import read
from quoth.interop.importing import import_model
from quoth.interop.tokenizer_files import SPLITS
from quoth.serve.requests import ServedModel
from quoth.serve.responses import Reply
from quoth.serve.worker import Answer
from quoth.system.errors import InputError
from quoth.text.chat import Template
from quoth.text.special import for_chat
from quoth.text.tokenizer import Bytes, Characters, Tokenizer, decode, load, spelling

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
# As in Qwen3: special and other tokens in turn, so that a number too few shows.
ADDED = [
    (300, "<|endoftext|>", True),
    (301, "<|im_start|>", True),
    (302, "<|im_end|>", True),
    (303, "<tool_call>", False),
    (304, "<|fim|>", True),
    (305, "<think>", False),
    (306, "</think>", False),
]
NAMES = [name for _, name, _ in ADDED]


def document(split: str = "qwen2") -> dict[str, Any]:
    saved = json.loads(bpe().dump())
    saved["pre_tokenizer"] = SPLITS[split]
    saved["added_tokens"] = [{"id": i, "content": c, **FLAGS, "special": special} for i, c, special in ADDED]
    return saved


def texts(count: int = 300) -> list[str]:
    """All names side by side and apart, cut short and mixed with words."""
    pairs = [f"{a}{between}{b}" for a, b in itertools.product(NAMES, NAMES) for between in ("", " ", "\n", "the king")]
    rng, parts = random.Random(0), [*NAMES, "<|", "|>", "<", "<thi", "nk>", "the ", "king", " ", "\n", "é", "<|im_"]
    return [*NAMES, *pairs, *("".join(rng.choices(parts, k=rng.randint(1, 12))) for _ in range(count))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = load(json.dumps(document()))
    export_hf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    return tmp_path / "out"


def check(tokenizer: Tokenizer, theirs: Any) -> None:
    """The same ids where the names of special tokens are text, and where they are special, between them."""
    special = set(tokenizer.special.values())
    for text in texts():
        ids = tokenizer.encode(text).tolist()
        assert ids == theirs(text, split_special_tokens=True, add_special_tokens=False)["input_ids"], text
        assert not special & set(ids)
        assert decode(tokenizer, ids) == text
        parsed = theirs(text, split_special_tokens=False, add_special_tokens=False)["input_ids"]
        parts = re.split(f"({'|'.join(map(re.escape, tokenizer.special))})", text)
        known = ([tokenizer.special[p]] if p in tokenizer.special else tokenizer.encode(p).tolist() for p in parts)
        assert parsed == [i for ids in known for i in ids], text


def test_added_tokens_keep_their_ids(folder: Path) -> None:
    _, tokenizer = import_model(folder)
    check(tokenizer, AutoTokenizer.from_pretrained(folder))
    assert tokenizer.encode("</think>").tolist() == [306]
    assert tokenizer.special == {name: i for i, name, special in ADDED if special}


def test_a_second_export_says_the_same(folder: Path, tmp_path: Path) -> None:
    gpt, tokenizer = import_model(folder)
    export_hf(tmp_path / "again", gpt, tokenizer, "f32", "tiny", {})
    _, again = import_model(tmp_path / "again")
    check(again, AutoTokenizer.from_pretrained(tmp_path / "again"))


def test_gguf_keeps_the_kinds_of_tokens(folder: Path, tmp_path: Path) -> None:
    gpt, tokenizer = import_model(folder)
    tokenizer.ends = [302, 300, 304]
    path = export_gguf(tmp_path / "gguf", gpt, tokenizer, "f32", "tiny", {})
    assert read(path)[0]["tokenizer.ggml.token_type"][300:].tolist() == [3 if special else 4 for *_, special in ADDED]
    _, back = import_model(path)
    assert back.special == tokenizer.special
    assert list(back.ends) == [300, 302, 304]
    assert [back.encode(t).tolist() for t in texts()] == [tokenizer.encode(t).tolist() for t in texts()]


def test_the_end_that_gguf_needs_has_a_name_of_its_own(folder: Path, tmp_path: Path) -> None:
    gpt, tokenizer = import_model(folder)
    path = export_gguf(tmp_path / "gguf", gpt, tokenizer, "f32", "tiny", {})
    tokens = read(path)[0]["tokenizer.ggml.tokens"]
    assert len(set(tokens)) == len(tokens) == 308
    assert import_model(path)[1].vocabulary == 308


def test_special_tokens_give_no_text_but_have_a_spelling() -> None:
    tokenizer = load(json.dumps(document()))
    assert decode(tokenizer, [300, *tokenizer.encode("a</think>").tolist(), 302]) == "a</think>"
    assert [spelling(tokenizer, i).decode() for i in range(300, 307)] == NAMES
    assert spelling(tokenizer, tokenizer.encode("a")[0]) == b"a"


def test_answers_have_no_special_tokens_in_their_text_but_in_their_lists(folder: Path) -> None:
    gpt, tokenizer = import_model(folder)
    engine = Engine(gpt, tokenizer, threads=1)
    prompt = [301, *tokenizer.encode("a</think>").tolist(), 302]
    request = Request(prompt=prompt, tokens=5, sampling=Sampling(temperature=0), logprobs=2, echo=True)
    (generation,) = engine.generate([request])
    reply = Reply(ServedModel("tiny", engine, 0), [request], 1, chat=False, echoed=True)
    answer = Answer(generation)
    for token in generation.tokens:
        answer.give(token, generation.finish if token is generation.tokens[-1] else "")
    (choice,) = reply.response([answer])["choices"]
    assert choice["text"] == "a</think>" + decode(tokenizer, generation.answer)
    told = choice["logprobs"]
    assert told["tokens"][:4] == ["<|im_start|>", "a", "</think>", "<|im_end|>"]
    assert told["text_offset"][:5] == [0, 0, 1, 9, 9]


def test_no_merge_and_no_word_of_the_vocabulary_makes_a_special_token() -> None:
    saved = document("gpt-2")
    vocabulary = saved["model"]["vocab"]
    at = len(vocabulary)
    vocabulary |= {"<s": at, "<s>": at + 1}
    saved["model"]["merges"] += [["<", "s"], ["<s", ">"]]
    saved["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    saved["added_tokens"] = [{"id": at + 1, "content": "<s>", **FLAGS, "special": True}]
    for ignore in (False, True):
        saved["model"]["ignore_merges"] = ignore
        tokenizer = load(json.dumps(saved))
        assert at + 1 not in tokenizer.encode("<s>")
        assert decode(tokenizer, tokenizer.encode("<s>")) == "<s>"


def test_a_token_that_the_config_names_is_special(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</think>", "bos_token": "the"}))
    _, tokenizer = import_model(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert {"</think>", "the"} <= tokenizer.special.keys()
    assert 306 in tokenizer.ends
    for text in ("</think>", "a </think> b"):
        assert tokenizer.encode(text).tolist() == theirs(text, split_special_tokens=True)["input_ids"]
    # transformers merges letters even to a special token.
    assert decode(tokenizer, tokenizer.encode("the</think>")) == "the</think>"


def test_what_texts_begin_with_is_that_of_transformers(folder: Path, tmp_path: Path) -> None:
    gpt, tokenizer = import_model(folder)
    for begins in ([], [300], [300, 301], [285], [303]):
        tokenizer.begins = begins
        out = tmp_path / f"begins {begins}"
        export_hf(out, gpt, tokenizer, "f32", "tiny", {})
        theirs = AutoTokenizer.from_pretrained(out)
        _, back = import_model(out)
        assert theirs(TEXT)["input_ids"] == [*back.begins, *back.encode(TEXT).tolist()]
        assert list(back.begins) == begins
        library = Library.from_file(str(out / "tokenizer.json"))
        assert library.encode("").ids == begins


def test_more_ends_than_gguf_names(folder: Path, tmp_path: Path) -> None:
    gpt, tokenizer = import_model(folder)
    tokenizer.ends = [300, 301, 302, 304]
    with pytest.raises(InputError, match="at most 3 tokens that end an answer"):
        export_gguf(tmp_path / "gguf", gpt, tokenizer, "f32", "tiny", {})


def test_words_that_llama_cpp_would_look_up_whole(folder: Path, tmp_path: Path) -> None:
    gpt, _ = import_model(folder)
    saved = document("llama-bpe")
    saved["model"]["merges"].pop()
    for ignore, split in ((False, "llama-bpe"), (True, "qwen2")):
        saved["model"]["ignore_merges"], saved["pre_tokenizer"] = ignore, SPLITS[split]
        with pytest.raises(InputError, match=f"would not cut words of the split {split}"):
            export_gguf(tmp_path / "gguf", gpt, load(json.dumps(saved)), "f32", "tiny", {})


CHATS = {
    "characters": lambda: Characters(TEXT),
    "characters of several bytes": lambda: Characters(TEXT + ACCENTED),
    "bytes": Bytes,
    "bpe": bpe,
}
SAID = [
    {"role": "system", "content": "The king said:"},
    {"role": "user", "content": "speak, or be for ever still!"},
    {"role": "assistant", "content": "the sea's asleep"},
]


@pytest.mark.parametrize("kind", CHATS)
def test_a_tokenizer_for_conversations_is_the_same_in_transformers(kind: str, tmp_path: Path) -> None:
    tokenizer = for_chat(CHATS[kind]())
    export_hf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    _, back = import_model(tmp_path / "out")
    assert len(theirs) == tokenizer.vocabulary == back.vocabulary
    assert theirs.eos_token_id == theirs.pad_token_id == tokenizer.special["<|end|>"]
    assert (back.special, list(back.ends)) == (tokenizer.special, list(tokenizer.ends))
    for text in (TEXT, "<|end|>", "is <|user|><|end|>come", "<|us er|>", "<|", "|>"):
        if "characters" in kind and not set(text) <= set(TEXT):
            continue
        ids = tokenizer.encode(text).tolist()
        assert theirs(text, split_special_tokens=True)["input_ids"] == ids == back.encode(text).tolist()
        assert theirs.decode(ids) == text
        parts = re.split(r"(<\|(?:end|user|assistant|system)\|>)", text)
        known = ([tokenizer.special[p]] if p in tokenizer.special else tokenizer.encode(p).tolist() for p in parts)
        assert theirs(text)["input_ids"] == [i for ids in known for i in ids]
    got = theirs.apply_chat_template(SAID, return_dict=True, return_assistant_tokens_mask=True)
    expected = (got["input_ids"], got["assistant_masks"])
    for one in (tokenizer, back):
        assert one.template
        assert Template(one.template).ids_and_weights(SAID, one) == expected
    prompt = theirs.apply_chat_template(SAID[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert Template(str(back.template)).ids(SAID[:2], back) == prompt


@pytest.mark.parametrize("kind", CHATS)
def test_a_tokenizer_for_conversations_comes_back_from_gguf(kind: str, tmp_path: Path) -> None:
    for tokenizer in (CHATS[kind](), for_chat(CHATS[kind]())):
        path = export_gguf(
            tmp_path / f"{len(tokenizer.special)}", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {}
        )
        _, back = import_model(path)
        assert back.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
        if tokenizer.template:
            assert (back.special, list(back.ends)) == (tokenizer.special, list(tokenizer.ends))
            expected = Template(tokenizer.template).ids_and_weights(SAID, tokenizer)
            assert Template(str(back.template)).ids_and_weights(SAID, back) == expected


@pytest.mark.parametrize("export", [export_hf, export_gguf])
def test_a_special_token_with_the_name_of_another_is_not_exported(export: Any, tmp_path: Path) -> None:
    for tokenizer in (Bytes(["a"]), Characters(TEXT, ["a"])):
        with pytest.raises(InputError, match="special token 'a' is spelled as another token is"):
            export(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
