"""The API as the `openai` client sees it, against what the engine says when it is asked directly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
import torch
from serve.running import ALPHABET, GPTS, Running

from quoth.generate.engine import Engine
from quoth.generate.request import Generation, Request
from quoth.generate.sampling import Sampling


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def alone(server: Running, name: str, prompt: str | list[int], **given: Any) -> Generation:
    """What an engine of the same model answers, asked without a server."""
    model = server.models[name]
    engine = Engine(GPTS[name], model.engine.tokenizer, threads=1, compiled=True)
    ids = engine.prompt_ids(prompt) if isinstance(prompt, str) else prompt
    return engine.generate([Request(prompt=ids, stop_ids=model.ends, **given)])[0]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["base", "chat", "bytes"]
    assert client.models.retrieve("chat").created == 1_700_000_000


def test_a_completion(client: openai.OpenAI, server: Running) -> None:
    got = client.completions.create(model="base", prompt="abc ", max_tokens=20, temperature=0.7, seed=5)
    expected = alone(server, "base", "abc ", tokens=20, seed=5, sampling=Sampling(temperature=0.7))
    assert got.choices[0].text == expected.text
    assert got.choices[0].finish_reason == "length"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (4, 20, 24)
    assert got.object == "text_completion"


def test_a_completion_streamed(client: openai.OpenAI, server: Running) -> None:
    given = dict(model="bytes", prompt="é", max_tokens=60, temperature=1.0, seed=3)
    chunks = list(client.completions.create(**given, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == client.completions.create(**given).choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 60
    assert len({c.id for c in chunks}) == 1


def test_several_prompts_and_choices(client: openai.OpenAI, server: Running) -> None:
    got = client.completions.create(model="base", prompt=["ab", "cd"], n=2, max_tokens=8, seed=1, temperature=1)
    texts = [
        alone(server, "base", prompt, tokens=8, seed=1, choice=choice, sampling=Sampling(temperature=1)).text
        for prompt in ("ab", "cd")
        for choice in range(2)
    ]
    assert [choice.text for choice in got.choices] == texts
    assert [choice.index for choice in got.choices] == [0, 1, 2, 3]
    assert got.usage.prompt_tokens == 4
    streamed = [""] * 4
    for chunk in client.completions.create(
        model="base", prompt=["ab", "cd"], n=2, max_tokens=8, seed=1, temperature=1, stream=True
    ):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == texts


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_a_text(client: openai.OpenAI, server: Running, stream: bool) -> None:
    """As lm-evaluation-harness asks."""
    model, text = server.models["base"], "abc def\nab"
    ids = model.engine.prompt_ids(text)
    given: Any = dict(model="base", prompt=ids, echo=True, logprobs=2, max_tokens=1, temperature=0, seed=1234)
    if stream:
        parts = [chunk.choices[0].logprobs for chunk in client.completions.create(**given, stream=True)]
        told = {
            name: [x for part in parts if part for x in getattr(part, name)] for name in ("tokens", "token_logprobs")
        }
    else:
        choice = client.completions.create(**given).choices[0]
        told = choice.logprobs.model_dump()
        assert choice.text[:-1] == text
        assert told["text_offset"] == list(range(len(text) + 1))
        assert told["top_logprobs"][0] is None
        assert all(len(top) in (2, 3) for top in told["top_logprobs"][1:])
    assert "".join(told["tokens"][:-1]) == text
    with torch.inference_mode():
        logprob_TV = GPTS["base"](torch.tensor([ids]))[0].log_softmax(-1)
    expected = [logprob_TV[at, token].item() for at, token in enumerate(ids[1:])]
    assert told["token_logprobs"][0] is None
    assert told["token_logprobs"][1:-1] == pytest.approx(expected, abs=1e-4)
    assert told["token_logprobs"][-1] == pytest.approx(logprob_TV[-1].max().item(), abs=1e-4)


def test_a_prompt_scored_without_a_word_more(client: openai.OpenAI) -> None:
    got = client.completions.create(model="base", prompt="abc", echo=True, logprobs=0, max_tokens=0)
    assert got.choices[0].text == "abc"
    assert len(got.choices[0].logprobs.token_logprobs) == 3
    assert client.completions.create(model="base", prompt="abc", echo=True, max_tokens=0).choices[0].text == "abc"


def test_a_stop_string_ends_and_is_not_shown(client: openai.OpenAI) -> None:
    given: Any = dict(model="base", prompt="ab", max_tokens=60, seed=2, temperature=1)
    through = client.completions.create(**given).choices[0].text
    stop = through[10:12]
    got = client.completions.create(**given, stop=stop).choices[0]
    assert got.text == through[: through.index(stop)]
    assert got.finish_reason == "stop"
    streamed = "".join(c.choices[0].text for c in client.completions.create(**given, stop=[stop], stream=True))
    assert streamed == got.text


MESSAGES: Any = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi <|end|> there"}]


def test_a_chat_by_its_template(client: openai.OpenAI, server: Running) -> None:
    got = client.chat.completions.create(model="chat", messages=MESSAGES, max_completion_tokens=12, seed=4)
    ids = [258, *b"be", 259, 256, *b"hi <|end|> there", 259, 257]
    expected = alone(server, "chat", ids, tokens=12, seed=4, sampling=Sampling(temperature=1))
    assert got.usage.prompt_tokens == len(ids)
    assert got.choices[0].message.content == expected.text
    assert got.choices[0].message.role == "assistant"
    assert got.choices[0].finish_reason == expected.finish


def test_a_chat_streamed_with_logprobs(client: openai.OpenAI) -> None:
    given: Any = dict(model="chat", messages=MESSAGES, max_tokens=12, seed=4, logprobs=True, top_logprobs=3)
    whole = client.chat.completions.create(**given).choices[0]
    chunks = list(client.chat.completions.create(**given, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.message.content
    told = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content or []]
    assert told == whole.logprobs.content
    assert len(told) == 12
    assert all(len(t.top_logprobs) == 3 for t in told)


def test_a_model_without_a_template_goes_on_from_the_messages(client: openai.OpenAI, server: Running) -> None:
    messages: Any = [{"role": "user", "content": "ab"}, {"role": "user", "content": [{"type": "text", "text": "cd"}]}]
    got = client.chat.completions.create(model="base", messages=messages, max_tokens=9, seed=4)
    expected = alone(server, "base", "ab\n\ncd", tokens=9, seed=4, sampling=Sampling(temperature=1))
    assert got.choices[0].message.content == expected.text


def test_a_template_that_refuses_says_why(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="A system message comes first"):
        client.chat.completions.create(model="chat", messages=[*MESSAGES, {"role": "system", "content": "x"}])


def test_answers_among_many_are_those_alone(client: openai.OpenAI, server: Running) -> None:
    prompts = [ALPHABET[n % 8] * (1 + n * 7 % 50) for n in range(24)]

    def ask(n: int) -> str:
        got = client.completions.create(model="base", prompt=prompts[n], max_tokens=5 + n * 3, seed=n, temperature=1)
        return got.choices[0].text

    with ThreadPoolExecutor(24) as pool:
        got = list(pool.map(ask, range(24)))
    for n, text in enumerate(got):
        expected = alone(server, "base", prompts[n], tokens=5 + n * 3, seed=n, sampling=Sampling(temperature=1))
        assert text == expected.text


def test_penalties_and_biases_reach_the_engine(client: openai.OpenAI) -> None:
    got = client.completions.create(
        model="base", prompt="a", max_tokens=10, logit_bias={"3": 100}, extra_body={"top_k": 5, "min_p": 0.01}
    )
    assert got.choices[0].text == sorted(ALPHABET)[3] * 10
    varied = client.completions.create(
        model="base", prompt="a", max_tokens=10, temperature=0, logit_bias={"3": 20}, presence_penalty=2
    )
    assert varied.choices[0].text[0] == sorted(ALPHABET)[3]


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (dict(model="none", prompt="a"), openai.NotFoundError, "there is base, chat, bytes"),
        (dict(model="base", prompt="a" * 65), openai.BadRequestError, "context is 64 tokens, but prompt has 65"),
        (dict(model="base", prompt="aZ"), openai.BadRequestError, "'Z' at position 1"),
        (dict(model="base", prompt=[99]), openai.BadRequestError, "no token 99"),
        (dict(model="base", prompt=[-1]), openai.BadRequestError, "prompt"),
        (dict(model="base", prompt=[]), openai.BadRequestError, "prompt"),
        (
            dict(model="base", prompt="a", temperature=3),
            openai.BadRequestError,
            "temperature: .*equal to 2",
        ),
        (dict(model="base", prompt="a", top_p=-0.1), openai.BadRequestError, "top_p: .*greater than or equal to 0"),
        (dict(model="base", prompt="a", n=17), openai.BadRequestError, "n: "),
        (dict(model="base", prompt="a", stop=["a"] * 5), openai.BadRequestError, "stop"),
        (dict(model="base", prompt="a", max_tokens=100_000), openai.BadRequestError, "At most 4,096 new tokens"),
        (dict(model="base", prompt="a", max_tokens=0), openai.BadRequestError, "max_tokens must be at least 1"),
        (dict(model="base", prompt="a", suffix="b"), openai.BadRequestError, "suffix is not supported"),
        (dict(model="base", prompt="a", best_of=4), openai.BadRequestError, "best_of"),
        (dict(model="base", prompt="a", logit_bias={"77": 1}), openai.BadRequestError, "no token 77"),
        (dict(model="base", prompt="a", logprobs=50), openai.BadRequestError, "logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused(client: openai.OpenAI, given: Any, kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        client.completions.create(**given)


def test_too_long_a_prompt_has_the_code_that_clients_look_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="base", prompt="a" * 100)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"


def test_a_window_slides_past_the_context(client: openai.OpenAI, server: Running) -> None:
    got = client.completions.create(model="base", prompt="a" * 60, max_tokens=100, seed=1, temperature=1)
    expected = alone(server, "base", "a" * 60, tokens=100, seed=1, sampling=Sampling(temperature=1))
    assert got.choices[0].text == expected.text
    assert len(got.choices[0].text) == 100


@pytest.mark.parametrize("field", [{"tools": [{}]}, {"response_format": {"type": "json_object"}}, {"top_logprobs": 2}])
def test_what_chats_cannot_do(client: openai.OpenAI, field: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=r"tools|response_format|top_logprobs"):
        client.chat.completions.create(model="chat", messages=MESSAGES, **field)


def test_special_tokens_are_no_text_unless_they_are_asked_for(client: openai.OpenAI) -> None:
    """A model that is biased to write one among letters."""
    given: Any = dict(model="chat", messages=MESSAGES, max_tokens=12, seed=4, logit_bias={"256": 100}, logprobs=True)
    hidden = client.chat.completions.create(**given)
    assert hidden.choices[0].message.content == ""
    assert hidden.usage.completion_tokens == 12
    assert [token.bytes for token in hidden.choices[0].logprobs.content] == [None] * 12
    streamed = client.chat.completions.create(**given, stream=True)
    assert not any(c.choices[0].delta.content for c in streamed)
    shown = client.chat.completions.create(**given, extra_body={"skip_special_tokens": False})
    assert shown.choices[0].message.content == "<|user|>" * 12
    echoed = client.completions.create(
        model="chat", prompt=[256, 97, 256, 98], echo=True, logprobs=0, max_tokens=1, logit_bias={"256": 100}
    )
    assert echoed.choices[0].text == "ab"
    assert echoed.choices[0].logprobs.text_offset == [0, 0, 1, 1, 2]


def test_developers_are_heard_as_the_system(client: openai.OpenAI) -> None:
    told = [
        client.chat.completions.create(
            model="chat", messages=[{"role": role, "content": "be"}, MESSAGES[1]], max_tokens=12, seed=4
        )
        for role in ("developer", "system")
    ]
    assert told[0].choices[0].message.content == told[1].choices[0].message.content
    assert told[0].usage == told[1].usage


@pytest.mark.parametrize(
    ("given", "like"),
    [
        ({"top_p": 0}, {"temperature": 0}),
        ({"top_k": -1}, {}),
        ({"logprobs": False}, {}),
        ({"model": "base", "echo": None, "n": None, "stop": None, "stream_options": {"include_usage": None}}, {}),
        ({"logit_bias": None, "best_of": None, "suffix": None, "seed": 5, "user": None, "temperature": None}, {}),
        ({"temperature": 1.0, "skip_special_tokens": None, "stream": None}, {}),
    ],
)
def test_what_other_servers_take_is_taken(client: openai.OpenAI, given: Any, like: Any) -> None:
    """What vLLM, or llama.cpp's server, understands."""
    base = {"prompt": "abc", "max_tokens": 20, "seed": 5}
    got, expected = (
        httpx.post(f"{client.base_url}completions", json={**base, **more}).json() for more in (given, like)
    )
    assert got["choices"] == expected["choices"]


def test_no_model_and_no_prompt_may_be_null(client: openai.OpenAI) -> None:
    got = httpx.post(f"{client.base_url}completions", json={"model": None, "prompt": None})
    assert got.status_code == 200
    got = httpx.post(f"{client.base_url}completions", json={"prompt": "ab", "logprobs": True, "seed": 1})
    assert len(got.json()["choices"][0]["logprobs"]["top_logprobs"][0]) in (1, 2)


def test_minus_one_is_as_many_tokens_as_there_is_room_for(client: openai.OpenAI) -> None:
    got = client.completions.create(model="base", prompt="abc", max_tokens=-1)
    assert got.usage.completion_tokens == 64 - 3
    got = client.chat.completions.create(model="base", messages=[{"role": "user", "content": "abc"}], max_tokens=-1)
    assert got.usage.completion_tokens == 64 - 3
    chat: Any = {"messages": [{"role": "user", "content": "abc", "name": None}], "tools": None, "logprobs": False}
    chat |= {"top_logprobs": 0, "max_completion_tokens": -1, "response_format": None, "answer_ids": None}
    assert httpx.post(f"{client.base_url}chat/completions", json={"model": "base", **chat}).status_code == 200


def test_addresses_that_clients_use(server: Running) -> None:
    listed = server.client.get("/v1/models")
    slashed = server.client.get("/v1/models/")
    assert slashed.json() == listed.json()
    for path in ("/", "/health", "/v1/models", "/v1/models/base", "/metrics", "/static/app.js"):
        head, get = server.client.head(path), server.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
