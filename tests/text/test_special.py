"""Special tokens for tokenizers that lack them: ids that exist stay, and no text gives the new ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from quoth.system.errors import InputError
from quoth.text.chat import Template, TemplateError
from quoth.text.special import CHAT_TEMPLATE, for_chat, with_special
from quoth.text.tokenizer import BPE, Bytes, Characters, Pretrained, Tokenizer, gpt2, load, train_bpe

TEXT = "Speak of <|end|> love, and ask of heaven. <|user|> <|assistant|>\n"
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
NAMES = ["<|user|>", "<|end|>"]


def bpe(vocabulary: int = 280, **parts: Any) -> Tokenizer:
    return load(json.dumps({**json.loads(train_bpe(vocabulary, iter([TEXT.replace("|", "/") * 3])).dump()), **parts}))


def added(tokenizer: Tokenizer, *names: str, special: bool = True) -> Tokenizer:
    entries = [
        {"id": tokenizer.vocabulary + i, "content": name, **FLAGS, "special": special} for i, name in enumerate(names)
    ]
    return load(json.dumps({**json.loads(tokenizer.dump()), "added_tokens": entries}))


LOWER = {"normalizer": {"type": "Lowercase"}}
TOKENIZERS = {
    "characters": lambda: Characters(TEXT),
    "bytes": Bytes,
    "characters with special ones": lambda: Characters(TEXT, ["<|end|>", "<s>"]),
    "bpe": bpe,
    "gpt2": gpt2,
    "pretrained": lambda: bpe(**LOWER),
    "reserved": lambda: added(bpe(), "<s>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|x|>"),
    "text": lambda: added(bpe(**LOWER), "<|end|>", "<think>", special=False),
}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, tuple[Tokenizer, Tokenizer, Tokenizer]]:
    """Each tokenizer, the same with special tokens, and that one saved and read."""
    made = {name: (before := make(), with_special(before, NAMES)) for name, make in TOKENIZERS.items()}
    return {name: (before, after, load(after.dump())) for name, (before, after) in made.items()}


@given(text=st.text(st.sampled_from([*TEXT]), max_size=30) | st.just(TEXT))
def test_texts_keep_their_ids_and_give_no_special_ones(tokenizers: Any, text: str) -> None:
    for name, (before, after, again) in tokenizers.items():
        ids = after.encode(text).tolist()
        assert not set(ids) & set(after.special.values())
        if name != "text" or "<|end|>" not in text:
            assert ids == before.encode(text).tolist()
        assert again.encode(text).tolist() == ids


def test_ids_that_exist_stay_and_new_ones_follow(tokenizers: Any) -> None:
    for name, (before, after, again) in tokenizers.items():
        kept = {k: v for k, v in before.special.items() if k in after.special}
        assert kept.items() <= after.special.items()
        assert set(NAMES) <= after.special.keys()
        new = 0 if name == "reserved" else sum(n not in before.special for n in NAMES) - (name == "text")
        assert after.vocabulary == before.vocabulary + new == len(after.pieces)
        assert all(after.pieces[i] == b"" for i in after.special.values())
        assert (again.special, again.pieces, type(again)) == (after.special, after.pieces, type(after))
        assert with_special(after, NAMES) is after


def test_the_library_gives_the_same_numbers(tokenizers: Any) -> None:
    for _, after, _ in tokenizers.values():
        if isinstance(after, BPE | Pretrained):
            library = Library.from_str(after.dump())
            assert {name: library.token_to_id(name) for name in after.special} == after.special
            assert library.get_vocab_size() == after.vocabulary


def test_reserved_tokens_are_taken_first_but_not_those_in_use() -> None:
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(4)]
    base = added(bpe(), "<s>", *reserved, "<|extra_0|>", "[control_7]")
    size = base.vocabulary
    base.begins, base.ends = [size - 6], [size - 5]
    base.template = "<|reserved_special_token_2|>"
    made = with_special(base, ["<a>", "<b>", "<c>", "<d>"])
    assert [made.special[name] for name in ("<a>", "<b>", "<c>", "<d>")] == [size - 3, size - 2, size - 1, size]
    assert [made.special[name] for name in reserved[:3]] == [size - 6, size - 5, size - 4]
    assert (made.begins, made.ends, made.template) == (base.begins, base.ends, base.template)


def test_a_token_of_the_vocabulary_becomes_special() -> None:
    learned = train_bpe(400, iter([TEXT * 9]))
    document = json.loads(learned.dump())
    document["pre_tokenizer"]["use_regex"] = False
    document["model"]["vocab"]["<|end|>"] = learned.vocabulary
    made = with_special(load(json.dumps(document)), NAMES)
    assert made.special == {"<|end|>": learned.vocabulary, "<|user|>": learned.vocabulary + 1}
    assert learned.vocabulary not in made.encode(TEXT)


@pytest.mark.parametrize("names", [["<a>", "<a>"], ["<a>", ""]])
def test_names_that_are_none(names: list[str]) -> None:
    for tokenizer in (Bytes(), bpe()):
        with pytest.raises(InputError, match="distinct names that are not empty"):
            with_special(tokenizer, names)


def test_every_tokenizer_becomes_one_for_conversations() -> None:
    messages = [{"role": "system", "content": "as"}, {"role": "user", "content": "of"}]
    for make in TOKENIZERS.values():
        base = make()
        made = for_chat(base)
        assert list(made.ends) == [made.special["<|end|>"]]
        assert made.template == CHAT_TEMPLATE
        assert for_chat(made) is made
        s = made.special
        expected = [
            s["<|system|>"], *made.encode("as"), s["<|end|>"], s["<|user|>"], *made.encode("of"), s["<|end|>"],
            s["<|assistant|>"],
        ]  # fmt: skip
        assert Template(made.template).ids(messages, made) == expected


def test_a_tokenizer_that_knows_conversations_stays() -> None:
    chat = with_special(bpe(), ["<|im_start|>", "<|im_end|>"])
    chat.template, chat.ends = "{{ messages[0].content }}<|im_end|>", [chat.special["<|im_end|>"]]
    assert for_chat(chat) is chat


def test_the_tokenizer_that_is_given_stays_as_it_was() -> None:
    tokenizer = Bytes(["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<s>"])
    tokenizer.begins = [260]
    made = for_chat(tokenizer)
    assert (tokenizer.template, list(tokenizer.ends)) == (None, [])
    assert made.template
    assert Template(made.template).ids([{"role": "user", "content": "a"}], made) == [260, 257, 97, 259, 258]


def test_a_role_that_the_template_does_not_know() -> None:
    with pytest.raises(
        TemplateError, match=r"^The roles of a conversation are system, user and assistant, not tool\.$"
    ):
        Template(CHAT_TEMPLATE).text([{"role": "tool", "content": "3"}])
    assert Template(CHAT_TEMPLATE).text([{"role": "developer", "content": "3"}], answer=False) == "<|system|>3<|end|>"
