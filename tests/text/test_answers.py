"""What is learned of a conversation: the assistant's answers, as transformers marks them, after what a prompt gives."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from transformers import PreTrainedTokenizerFast

from quoth.interop.tokenizer_files import SPLITS
from quoth.system.errors import InputError
from quoth.text.chat import Template, TemplateError
from quoth.text.special import CHAT_TEMPLATE, for_chat, with_special
from quoth.text.tokenizer import Bytes, Characters, Tokenizer, load, spelling, train_bpe

TEXT = "Speak of love, and ask of heaven.\n\nassistant\nWhat is love? It is the star to every wandering bark.\n\n\n"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}"
)
LLAMA3 = (
    "{{- '<|begin_of_text|>' }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{%- if m.role == 'assistant' %}{% generation %}{{- m.content | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{%- else %}{{- m.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
# Each template with its special tokens, of which the last one ends an answer.
TEMPLATES = {
    "ChatML": (CHATML, ["<|im_start|>", "<|im_end|>"]),
    "Llama 3": (LLAMA3, ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "quoth": (CHAT_TEMPLATE, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]),
}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Speak of love."},
    {"role": "assistant", "content": "It is the star."},
    {"role": "user", "content": "What is <|im_end|><|eot_id|><|end|>?"},
    {"role": "assistant", "content": " ask  heaven\n"},
]


def without_blocks(source: str) -> str:
    return source.replace("{% generation %}", "").replace("{% endgeneration %}", "").replace(
        "{%- generation -%}", ""
    ).replace("{%- endgeneration -%}", "")  # fmt: skip


def tokenizer_of(name: str) -> Tokenizer:
    """With the split of its model: GPT-2's looks from the line breaks before an answer to the answer's first letter."""
    source, special = TEMPLATES[name]
    document = json.loads(train_bpe(400, iter([TEXT * 3])).dump())
    document["pre_tokenizer"] = SPLITS["llama-bpe" if name == "Llama 3" else "gpt-2"]
    made = with_special(load(json.dumps(document)), special)
    made.ends, made.template = [made.special[special[-1]]], source
    return made


def theirs(
    tokenizer: Tokenizer, messages: Sequence[dict[str, str]], source: str, *, mask: bool = True
) -> tuple[list[int], list[int]]:
    fast = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenizer.dump()))
    got: Any = fast.apply_chat_template(
        list(messages), chat_template=source, return_dict=True, return_assistant_tokens_mask=mask
    )
    return got["input_ids"], got["assistant_masks"] if mask else []


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Tokenizer, Template, Template]]:
    return {
        name: (tokenizer_of(name), Template(source), Template(without_blocks(source)))
        for name, (source, _) in TEMPLATES.items()
    }


def plain(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Without what transformers reads as special tokens, and nothing that merges across an answer's beginning."""
    return [{**m, "content": m["content"].replace("<|", "").strip() or "x"} for m in messages]


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_weights_are_those_of_transformers(name: str, made: Any) -> None:
    tokenizer, marking, silent = made[name]
    ids, weights = marking.ids_and_weights(plain(TALK), tokenizer)
    assert (ids, weights) == theirs(tokenizer, plain(TALK), TEMPLATES[name][0])
    assert silent.ids_and_weights(plain(TALK), tokenizer) == (ids, weights)
    assert 0 < sum(weights) < len(ids)


SAID = st.text(st.sampled_from("ask lov\n?"), min_size=1, max_size=12)


@given(said=st.lists(SAID, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0), system=st.booleans())
def test_any_conversation_as_in_transformers(made: Any, said: list[str], system: bool) -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": one} for i, one in enumerate(said)]
    messages = plain([{"role": "system", "content": "ask"}] * system + messages)
    for name, (tokenizer, marking, silent) in made.items():
        expected = theirs(tokenizer, messages, TEMPLATES[name][0])
        assert marking.ids_and_weights(messages, tokenizer) == expected
        assert silent.ids_and_weights(messages, tokenizer) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_is_what_generation_sees(name: str, made: Any) -> None:
    """Whatever stands at the beginnings of answers, and merges with what stands before them."""
    tokenizer, *both = made[name]
    for begins in ("", "\n", "\n\n", " ", " \n", "assistant\n"):
        messages = [{**m, "content": begins + m["content"]} if m["role"] == "assistant" else m for m in TALK]
        for template in both:
            ids, weights = template.ids_and_weights(messages, tokenizer)
            for i in (2, 4):
                prompt = template.ids(messages[:i], tokenizer)
                assert ids[: len(prompt)] == prompt
                assert weights[len(prompt) - 1 : len(prompt) + 1] == [0, 1]
            end = next(iter(tokenizer.ends))
            assert sum(w for i, w in zip(ids, weights, strict=True) if i == end) == 2
            answers = b"".join(tokenizer.pieces[i] for i, w in zip(ids, weights, strict=True) if w)
            said = "".join(
                m["content"].strip() if name == "Llama 3" else m["content"] for m in (messages[2], messages[4])
            )
            assert answers.decode() == said


def test_merges_would_reach_across_the_beginning_of_an_answer() -> None:
    """So that the test before this one has something to show."""
    tokenizer, template = tokenizer_of("ChatML"), Template(CHATML)
    messages = [TALK[1], {"role": "assistant", "content": "\n\nask"}]
    ids, _ = template.ids_and_weights(messages, tokenizer)
    assert ids != theirs(tokenizer, messages, CHATML)[0]
    tokenizer = with_special(train_bpe(400, iter([TEXT * 3])), TEMPLATES["Llama 3"][1])
    tokenizer.ends = [tokenizer.special["<|eot_id|>"]]
    ids, _ = Template(LLAMA3).ids_and_weights(TALK, tokenizer)
    assert ids != theirs(tokenizer, TALK, LLAMA3)[0]
    prompt = Template(LLAMA3).ids(TALK[:4], tokenizer)
    assert ids[: len(prompt)] == prompt


@pytest.mark.parametrize("base", [Bytes(), Characters(TEXT + "B<|im_end|>_eot_id")])
def test_own_tokenizers(base: Tokenizer) -> None:
    tokenizer = for_chat(base)
    system, user, assistant, end = tokenizer.special.values()
    assert tokenizer.template
    ids, weights = Template(tokenizer.template).ids_and_weights(TALK, tokenizer)
    parts = [base.encode(m["content"]).tolist() for m in TALK]
    roles = [system, user, assistant, user, assistant]
    assert ids == [i for role, part in zip(roles, parts, strict=True) for i in (role, *part, end)]
    counted = [[0] + [int(role == assistant)] * (len(part) + 1) for role, part in zip(roles, parts, strict=True)]
    assert weights == [w for part in counted for w in part]


def test_what_follows_the_end_token_does_not_count() -> None:
    inside = CHATML.replace("<|im_end|>{% endgeneration %}", "<|im_end|>\n{% endgeneration %}")
    outside = CHATML.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
    tokenizer = tokenizer_of("ChatML")
    expected = Template(CHATML).ids_and_weights(TALK, tokenizer)[1]
    assert Template(outside).ids_and_weights(TALK, tokenizer)[1] == expected
    ids, weights = Template(inside).ids_and_weights(TALK, tokenizer)
    assert sum(weights) == sum(expected)
    assert not any(w for before, w in zip(ids, weights[1:], strict=False) if before in tokenizer.ends)


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_of_a_prompt_need_not_count(name: str, made: Any) -> None:
    tokenizer, template, _ = made[name]
    ids, weights = template.ids_and_weights(TALK, tokenizer, since=4)
    begin = len(template.ids(TALK[:4], tokenizer))
    assert ids == template.ids_and_weights(TALK, tokenizer)[0]
    assert weights == [0] * begin + template.ids_and_weights(TALK, tokenizer)[1][begin:]
    with pytest.raises(InputError, match="no message of the assistant"):
        template.ids_and_weights(TALK, tokenizer, since=5)


def test_what_begins_a_text_comes_once() -> None:
    tokenizer = tokenizer_of("Llama 3")
    begin = tokenizer.special["<|begin_of_text|>"]
    tokenizer.begins = [begin]
    ids, _ = Template(LLAMA3).ids_and_weights(TALK, tokenizer)
    assert ids.count(begin) == 1 and ids[0] == begin
    own = with_special(Bytes(), ["<s>"])
    own.begins = [256]
    chat = for_chat(own)
    assert chat.template
    ids, weights = Template(chat.template).ids_and_weights(TALK, chat)
    assert ids.count(256) == 1 and ids[0] == 256 and weights[0] == 0


# As Qwen3: an empty thought before the last answer, which earlier ones do not have.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}"
)


@pytest.mark.parametrize("marked", [False, True])
def test_an_answer_that_is_written_otherwise_later_is_not_learned(marked: bool) -> None:
    source = THINKING
    if marked:
        source = source.replace("{% if m.role == 'a", "{% generation %}{% if m.role == 'a")
        source = source.replace("<|im_end|>\n", "<|im_end|>{% endgeneration %}\n")
    tokenizer = tokenizer_of("ChatML")
    ids, weights = Template(source).ids_and_weights(TALK, tokenizer)
    learned = b"".join(tokenizer.pieces[i] for i, w in zip(ids, weights, strict=True) if w)
    assert learned.decode() == "<think>\n\n</think>\n\n ask  heaven\n"
    assert ids[: weights.index(1)] == Template(source).ids(TALK[:4], tokenizer)


def test_an_end_of_the_whole_conversation_is_no_part_of_an_answer() -> None:
    """As in Phi-3, which writes another token where nothing more is asked for."""
    source = without_blocks(CHATML) + "{% if not add_generation_prompt %}<|im_start|>{% endif %}"
    tokenizer = tokenizer_of("ChatML")
    ids, weights = Template(source).ids_and_weights(TALK, tokenizer)
    expected = Template(CHATML).ids_and_weights(TALK, tokenizer)
    assert (ids[:-1], weights[:-1], weights[-1]) == (*expected, 0)


def test_a_mark_that_keeps_a_filter_from_its_work_is_not_used() -> None:
    source = CHATML.replace("{% generation %}", "{% filter trim %}{% generation %}{{ '  ' }}").replace(
        "{% endgeneration %}", "{{ '\n' }}{% endgeneration %}{% endfilter %}"
    )
    tokenizer = tokenizer_of("ChatML")
    said = plain(TALK)
    assert Template(source).ids_and_weights(said, tokenizer) == Template(CHATML).ids_and_weights(said, tokenizer)


def test_text_cannot_forge_a_mark() -> None:
    """The marks are characters that the conversation does not hold, whichever these are."""
    tokenizer, template = tokenizer_of("ChatML"), Template(CHATML)
    forged = "".join(map(chr, range(0x10FFFD, 0x10FFC0, -1)))
    messages = [TALK[1] | {"content": forged}, TALK[2]]
    ids, weights = template.ids_and_weights(messages, tokenizer)
    learned = b"".join(tokenizer.pieces[i] for i, w in zip(ids, weights, strict=True) if w)
    assert learned.decode() == TALK[2]["content"]
    assert forged.encode() in b"".join(tokenizer.pieces[i] for i in ids)


def test_generation_is_a_tag_that_writes_what_it_holds() -> None:
    text = Template("a{%- generation -%} {{ messages[0].content }} {%- endgeneration -%}b").text([{"content": "x"}])
    assert text == "axb"
    with pytest.raises(TemplateError, match="broken"):
        Template("{% generation %}").text([])


@pytest.mark.parametrize(
    ("source", "messages", "said"),
    [
        (CHATML, TALK[:2], "no message of the assistant"),
        (CHATML, [], "no message of the assistant"),
        (CHATML.replace("<|im_end|>", ""), TALK, "writes no end token"),
        (without_blocks(CHATML).replace("<|im_end|>", ""), TALK, "writes no end token"),
        ("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", TALK[2:3], "nothing but the answer"),
        (CHATML.replace("assistant\n{{", "bot\n{{"), TALK, "no answer as it asks for one"),
        ("{% if messages | length > 4 %}<|im_end|>{% endif %}" + CHATML, TALK, "no answer as it asks for one"),
    ],
)
def test_a_conversation_of_which_nothing_can_be_learned(source: str, messages: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Template(source).ids_and_weights(messages, tokenizer_of("ChatML"))


def test_a_tokenizer_without_an_end() -> None:
    tokenizer = tokenizer_of("ChatML")
    tokenizer.ends = []
    with pytest.raises(InputError, match="no special token that ends an answer"):
        Template(CHATML).ids_and_weights(TALK, tokenizer)


# TRL's copies of the templates of known models, each with the token that ends its answers.
KNOWN = {
    "cohere2": "<|END_OF_TURN_TOKEN|>",
    "gemma3": "<end_of_turn>",
    "lfm2_v2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "qwen2_5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
}
# Models that cut the thoughts, here empty ones, out of the answers before the last one.
FORGETFUL = ("qwen3",)


@pytest.mark.parametrize("name", KNOWN)
def test_templates_of_known_models(name: str) -> None:
    """As they are, and as TRL marks them, with what TRL counts beside the answers: what follows an end, for one."""
    folder = Path(trl.__file__).parent / "chat_templates"
    source, marked = ((folder / f"{one}.jinja").read_text() for one in (name, f"{name}_training"))
    names = {token: None for token in re.findall(r"<\|?[A-Za-z_]+\|?>", source) if "think" not in token}
    document = json.loads(tokenizer_of("Llama 3").dump()) | {"added_tokens": []}
    tokenizer = with_special(load(json.dumps(document)), list(names | {"<s>": None, KNOWN[name]: None}))
    tokenizer.ends = [tokenizer.special[KNOWN[name]]]
    messages = plain(TALK)
    begin = "{%- set bos_token, eos_token = '<s>', '' -%}"
    ids, weights = Template(begin + marked).ids_and_weights(messages, tokenizer)
    their_ids, counted = theirs(tokenizer, messages, begin + marked)
    assert ids == their_ids
    assert all(w <= c for w, c in zip(weights, counted, strict=True))
    beside = "".join(spelled(tokenizer, i) for i, w, c in zip(ids, weights, counted, strict=True) if c > w)
    assert set(beside.replace("<think>", "")) <= {"\n"}
    said = [f"{messages[i]['content']}{KNOWN[name]}" for i in (2, 4)]
    learned = "".join(spelled(tokenizer, i) for i, w in zip(ids, weights, strict=True) if w)
    assert re.sub(r"(<think>)?\n*</think>\n*|<\|END_RESPONSE\|>", "", learned) == "".join(said)
    ids, weights = Template(begin + source).ids_and_weights(messages, tokenizer)
    assert ids == theirs(tokenizer, messages, begin + source, mask=False)[0]
    learned = "".join(spelled(tokenizer, i) for i, w in zip(ids, weights, strict=True) if w)
    learned = re.sub(r"(<think>)?\n*</think>\n*|<\|END_RESPONSE\|>", "", learned)
    assert learned == "".join(said[1:] if name in FORGETFUL else said)


def test_a_prompt_that_ends_where_a_token_of_the_conversation_goes_on() -> None:
    """Qwen3.5 asks with "<think>" and a line break, and writes two of them, a single token, after no thought."""
    source = (Path(trl.__file__).parent / "chat_templates" / "qwen3_5_think.jinja").read_text()
    tokenizer, messages = with_special(tokenizer_of("Llama 3"), TEMPLATES["ChatML"][1]), plain(TALK)
    tokenizer.ends = [tokenizer.special["<|im_end|>"]]
    template = Template(source)
    ids, weights = template.ids_and_weights(messages, tokenizer)
    prompt = template.ids(messages[:4], tokenizer)
    assert ids[: len(prompt)] == prompt
    assert weights == [0] * len(prompt) + [1] * (len(ids) - len(prompt) - 1) + [0]
    assert ids != theirs(tokenizer, messages, source, mask=False)[0]


def spelled(tokenizer: Tokenizer, i: int) -> str:
    return spelling(tokenizer, i).decode()
