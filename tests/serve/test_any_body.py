"""Whatever is sent, the server answers with something other than a fault of its own."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve.running import Running

NUMBERS = st.one_of(st.integers(-3, 40), st.floats(-3, 3), st.sampled_from([10**30, -(10**30), 1e300, 1e-300, 0, -0.0]))
TEXTS = st.one_of(st.text("abcdefgh \n", max_size=80), st.text(max_size=30))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=5)),
    max_leaves=12,
)
FIELDS = [
    *("model", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("logit_bias", "n", "seed", "stop", "stream", "stream_options", "max_tokens", "logprobs", "echo", "best_of"),
    *("suffix", "max_completion_tokens", "top_logprobs", "answer_ids", "tools", "response_format", "user"),
]
# Each field is left out, sensible, or anything at all.
SENSIBLE: dict[str, Any] = {
    "model": st.sampled_from(["base", "chat", "bytes", ""]),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "top_k": st.integers(0, 300),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0.01, 100),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(st.integers(0, 9).map(str), st.floats(-100, 100), max_size=3),
    "n": st.integers(1, 3),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "stop": st.one_of(TEXTS, st.lists(TEXTS, max_size=4)),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "max_tokens": st.integers(0, 12),
    "logprobs": st.integers(0, 20),
    "echo": st.booleans(),
    "answer_ids": st.lists(st.integers(0, 9), max_size=5),
}
ROLES = st.sampled_from(["system", "user", "assistant"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXTS}), min_size=1, max_size=4)
ID_LISTS = st.lists(st.integers(-1, 12), max_size=70)
PROMPTS = st.one_of(TEXTS, ID_LISTS, st.lists(TEXTS, max_size=3), st.lists(ID_LISTS, max_size=3), ANYTHING)


def bodies(required: dict[str, Any]) -> st.SearchStrategy[Any]:
    sensible = {name: SENSIBLE.get(name, ANYTHING) for name in FIELDS}
    optional = {name: st.one_of(values, values, ANYTHING) for name, values in sensible.items()}
    # Few fields at a time, or something would always be wrong.
    some = st.sets(st.sampled_from(FIELDS), max_size=4)

    def made_of(names: set[str]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(required, optional={name: optional[name] for name in sorted(names)})

    made = some.flatmap(made_of)
    return st.one_of(made, made, made, ANYTHING)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(body=bodies({"prompt": PROMPTS}))
def test_completions(server: Running, body: Any) -> None:
    check(server, "/v1/completions", body)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(body=bodies({"messages": st.one_of(MESSAGES, MESSAGES, ANYTHING)}))
def test_chats(server: Running, body: Any) -> None:
    check(server, "/v1/chat/completions", body)


def check(server: Running, path: str, body: Any) -> None:
    try:
        got = server.client.post(path, json=body)
    except ValueError:  # NaN and lone surrogates are no JSON.
        return
    assert got.status_code in (200, 400, 404), (got.status_code, got.text)
    assert '"server_error"' not in got.text
    if got.status_code != 200:
        assert got.json()["error"]["message"].endswith(".")
