"""Rows of every usual shape as conversations and preferences, as TRL takes them; others are refused by their field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.data_utils import maybe_extract_prompt

from quoth.system.errors import InputError
from quoth.tune.shapes import conversation, preference, prompt, rated

WHERE = "a.jsonl, line 3"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASKED = [system("s"), user("q"), bot("a")]
CONVERSATIONS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "OpenAI": ({"messages": ASKED}, ASKED),
    "OpenAI, developer": ({"messages": [{"role": "developer", "content": "s"}, *ASKED[1:]]}, ASKED),
    "OpenAI, parts": (
        {
            "messages": [
                user("q"),
                {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"text": "b"}, "c"]},
            ]
        },
        [user("q"), bot("abc")],
    ),
    "OpenAI, unanswered": ({"messages": [*ASKED, user("?")]}, [*ASKED, user("?")]),
    "ShareGPT": (
        {"conversations": [{"from": f, "value": v} for f, v in (("system", "s"), ("human", "q"), ("gpt", "a"))]},
        ASKED,
    ),
    "ShareGPT, system apart": (
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ASKED,
    ),
    "ShareGPT with OpenAI's keys": ({"conversations": ASKED}, ASKED),
    "Alpaca": ({"instruction": "q", "input": "", "output": "a"}, ASKED[1:]),
    "Alpaca with input": ({"instruction": "q", "input": "i", "output": "a"}, [user("q\n\ni"), bot("a")]),
    "Alpaca without instruction": ({"instruction": "", "input": "i", "output": "a"}, [user("i"), bot("a")]),
    "TRL, texts": ({"prompt": "q", "completion": "a"}, ASKED[1:]),
    "TRL, messages": ({"prompt": ASKED[:2], "completion": ASKED[2:]}, ASKED),
    "question and answer": ({"question": "q", "answer": "a", "id": 3}, ASKED[1:]),
    "a text that looks like a list": (
        {"prompt": "q", "completion": '[{"role": 1}]'},
        [user("q"), bot('[{"role": 1}]')],
    ),
    "with other columns": ({"messages": ASKED, "prompt": "q", "source": None}, ASKED),
}


@pytest.mark.parametrize(("row", "expected"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_conversations(row: dict[str, Any], expected: list[dict[str, str]]) -> None:
    made = conversation(row, WHERE)
    assert (list(made.messages), made.where) == (expected, WHERE)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [user("q"), {"role": "robot", "content": "a"}]},
            r"messages\[1\]\.role must be one of .* 'robot'",
        ),
        ({"messages": [user("q"), {"content": "a"}]}, r"messages\[1\]\.role must be one of .* None"),
        (
            {"messages": [bot("a"), user("q")]},
            "Message 1 is of the role assistant where one of the role user",
        ),
        ({"messages": [user("q"), user("q")]}, "Message 2 is of the role user where one of the role assistant"),
        ({"messages": [user("q"), bot("a"), system("s")]}, "Message 3 is of the role system"),
        ({"messages": [system("s"), bot("a")]}, "Message 2 is of the role assistant"),
        ({"messages": [user("q")]}, "no message of the assistant"),
        ({"messages": [system("s")]}, "no message of the assistant"),
        ({"messages": [user("q"), bot(" \n")]}, "Message 2, an answer of the assistant, is empty"),
        ({"messages": []}, r"messages must be a list of messages, not \[\]"),
        ({"messages": "hello"}, "messages must be a list of messages, not 'hello'"),
        ({"messages": ["q"]}, r"messages\[0\] must be an object with role and content, not 'q'"),
        ({"messages": [user("q"), {**bot(""), "content": None}]}, r"messages\[1\]\.content must be a text"),
        (
            {"messages": [user("q"), {**bot(""), "content": 3}]},
            r"messages\[1\]\.content must be a text, not 3",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"content\[0\]\.type must be text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            r"messages\[0\]\.content\[0\] must be a text",
        ),
        ({"messages": [user("q\ud800"), bot("a")]}, r"messages\[0\]\.content holds '.ud800', which is no character"),
        ({"conversations": [{"from": "cat", "value": "q"}]}, r"conversations\[0\]\.from must be one of"),
        ({"conversations": [{"from": "human", "value": 1}]}, r"conversations\[0\]\.value must be a text, not 1"),
        ({"prompt": 3, "completion": "a"}, "prompt must be a text, not 3"),
        ({"prompt": "q", "completion": ""}, "Message 2, an answer of the assistant, is empty"),
        ({"instruction": "q", "input": 3, "output": "a"}, "input must be a text, not 3"),
        ({"text": "q"}, "this row has only text"),
        ({}, "this row has no keys"),
        ([], r"A row must be an object with keys, not \[\]"),
        (ValueError("Expecting value"), "This is not JSON: Expecting value"),
    ],
)
def test_what_is_no_conversation_is_refused(row: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.jsonl, line 3: .*{said}") as caught:
        conversation(row, WHERE)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


PAIR = ([user("q")], [bot("a")], [bot("b")])
HUMAN = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"
PREFERENCES: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any]]] = {
    "texts": ({"prompt": "q", "chosen": "a", "rejected": "b"}, PAIR),
    "messages": ({"prompt": PAIR[0], "chosen": PAIR[1], "rejected": PAIR[2]}, PAIR),
    "messages without prompt": ({"chosen": [*PAIR[0], *PAIR[1]], "rejected": [*PAIR[0], *PAIR[2]]}, PAIR),
    "the prompt twice": ({"prompt": "q", "chosen": [*PAIR[0], *PAIR[1]], "rejected": [*PAIR[0], *PAIR[2]]}, PAIR),
    "texts without prompt": (
        {"chosen": "The sky is blue.", "rejected": "The sky is bleak."},
        ([user("The sky is")], [bot("blue.")], [bot("bleak.")]),
    ),
    "Anthropic's": (
        {"chosen": HUMAN + " yes", "rejected": HUMAN + " yet"},
        ([user("q"), bot("a"), user("r")], [bot("yes")], [bot("yet")]),
    ),
    "Anthropic's with prompt": (
        {"prompt": HUMAN, "chosen": " yes", "rejected": " no"},
        ([user("q"), bot("a"), user("r")], [bot(" yes")], [bot(" no")]),
    ),
    "several turns": (
        {"chosen": [user("q"), bot("a"), user("r"), bot("c")], "rejected": [user("q"), bot("b")]},
        ([user("q")], [bot("a"), user("r"), bot("c")], [bot("b")]),
    ),
}


@pytest.mark.parametrize(("row", "expected"), PREFERENCES.values(), ids=PREFERENCES)
def test_preferences(row: dict[str, Any], expected: tuple[Any, Any, Any]) -> None:
    made = preference(row, WHERE)
    assert (list(made.prompt), list(made.chosen), list(made.rejected)) == expected
    good, bad = rated(row, WHERE)
    assert (good.prompt, good.completion, good.label) == (made.prompt, made.chosen, True)
    assert (bad.prompt, bad.completion, bad.label) == (made.prompt, made.rejected, False)


TURNS = st.lists(st.sampled_from("ab"), min_size=2, max_size=6).map(lambda said: said[: len(said) // 2 * 2])


@given(chosen=TURNS, rejected=TURNS)
def test_an_implicit_prompt_is_that_of_trl(chosen: list[str], rejected: list[str]) -> None:
    row = {
        key: [(user, bot)[i % 2](one) for i, one in enumerate(["q", *said[1:]])]
        for key, said in (("chosen", chosen), ("rejected", rejected))
    }
    theirs = maybe_extract_prompt(json.loads(json.dumps(row)))
    try:
        made = preference(row, WHERE)
    except InputError:
        parts = theirs["chosen"], theirs["rejected"]
        assert row["chosen"] == row["rejected"] or not all(part and part[0]["role"] == "assistant" for part in parts)
        return
    assert (list(made.prompt), list(made.chosen), list(made.rejected)) == (
        theirs["prompt"], theirs["chosen"], theirs["rejected"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same, 'a'"),
        ({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("a")]}, "chosen and rejected are the same, 'a'"),
        ({"prompt": "q", "chosen": "a"}, ".*this row has only prompt, chosen"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "The prompt must end with a message of the user"),
        ({"chosen": "a", "rejected": "b"}, "The prompt must end with a message of the user"),
        ({"prompt": [bot("q")], "chosen": "a", "rejected": "b"}, "The prompt must end with a message of the user"),
        ({"prompt": "q", "chosen": "", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": [bot(" ")]}, "rejected is empty"),
        ({"prompt": "q", "chosen": 3, "rejected": "b"}, "chosen must be a text, not 3"),
        ({"prompt": "q", "chosen": "a", "rejected": [{"role": "x"}]}, r"rejected\[0\]\.role must be one of"),
        ({"chosen": [user("q"), bot("a")], "rejected": [user("q")]}, "The prompt must end with a message of"),
        ({"prompt": "q", "chosen": "a", "rejected": [bot("b"), user("c")]}, "rejected must begin and end with a mess"),
        ({"chosen": [user("p"), bot("a")], "rejected": [user("q"), bot("a")]}, "The prompt must end with a message of"),
        ({"prompt": [user("p"), user("q")], "chosen": "a", "rejected": "b"}, "Message 2 is of the role user"),
    ],
)
def test_what_is_no_preference_is_refused(row: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.jsonl, line 3: {said}"):
        preference(row, WHERE)


@pytest.mark.parametrize("label", [True, False])
def test_rated_answers(label: bool) -> None:
    for row in (
        {"prompt": "q", "completion": "a", "label": label},
        {"prompt": [user("q")], "completion": [bot("a")], "label": label},
    ):
        (made,) = rated(row, WHERE)
        assert (made.prompt, made.completion, made.label) == ((user("q"),), (bot("a"),), label)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "completion": "a", "label": 1}, "label must be true or false, not 1"),
        ({"prompt": "q", "completion": "a", "label": "yes"}, "label must be true or false, not 'yes'"),
        ({"prompt": "q", "completion": "a"}, "this row has only prompt, completion"),
        ({"prompt": "q", "completion": "", "label": True}, "completion is empty"),
        ({"prompt": "q", "completion": [user("a")], "label": True}, "completion must begin and end with a message"),
    ],
)
def test_what_is_not_rated_is_refused(row: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.jsonl, line 3: .*{said}"):
        rated(row, WHERE)


def test_prompts() -> None:
    for row in ({"prompt": "q"}, {"messages": [user("q")]}, {"messages": [user("q"), bot("a")]}, {"question": "q"}):
        assert prompt(row, WHERE).prompt == (user("q"),)
    for row, said in (
        ({"text": "q"}, "A prompt has the key prompt"),
        ({"messages": [bot("a")]}, "must end with a mess"),
    ):
        with pytest.raises(InputError, match=rf"^a\.jsonl, line 3: .*{said}"):
            prompt(row, WHERE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["user", "assistant", "system"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["messages", "conversations", "role", "content", "from", "value", "type", "text", "prompt",
                         "completion", "chosen", "rejected", "label", "system", "input", "instruction", "output"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(row=JSON)
@pytest.mark.parametrize("read", [conversation, preference, rated, prompt])
def test_any_json_is_read_or_refused_in_a_sentence(read: Callable[[Any, str], Any], row: Any) -> None:
    try:
        read(row, WHERE)
        said = ""
    except InputError as error:
        said = str(error)
    assert not said or (said.startswith(WHERE) and said.endswith("."))
