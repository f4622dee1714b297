"""Clients besides OpenAI's own, over loopback: LangChain's, and lm-evaluation-harness's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from serve.running import GPTS, Running

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.interop.export import export_hf


def test_langchain(server: Running) -> None:
    langchain_openai = pytest.importorskip("langchain_openai")
    given: Any = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "chat", "seed": 4, "temperature": 0.9}
    chat = langchain_openai.ChatOpenAI(**given, max_tokens=20, max_retries=0)
    model = server.models["chat"]
    assert model.template
    ids = model.template.ids([{"role": "user", "content": "hello"}], model.engine.tokenizer)
    engine = Engine(GPTS["chat"], model.engine.tokenizer, compiled=True, threads=1)
    asked = Request(prompt=ids, tokens=20, seed=4, sampling=Sampling(temperature=0.9), stop_ids=model.ends)
    (expected,) = engine.generate([asked])
    answer = chat.invoke("hello")
    assert answer.content == expected.text
    assert answer.usage_metadata["output_tokens"] == len(expected.answer)
    assert "".join(str(part.content) for part in chat.stream("hello")) == expected.text


@pytest.mark.slow
def test_lm_evaluation_harness(server: Running, tmp_path: Path) -> None:
    models = pytest.importorskip("lm_eval.models.openai_completions")
    from lm_eval.api.instance import Instance

    model, gpt = server.models["base"], GPTS["base"]
    export_hf(tmp_path / "tokenizer", gpt, model.engine.tokenizer, "f32", "base", {})
    judge = models.LocalCompletionsAPI(
        model="base",
        base_url=f"{server.url}/v1/completions",
        tokenizer=str(tmp_path / "tokenizer"),
        tokenizer_backend="huggingface",
        max_retries=1,
        batch_size=1,
    )
    pairs = [("abc", " def"), ("ab\ncd", " efg"), ("h", "h")]
    got = judge.loglikelihood([Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)])
    for (context, continuation), (logprob, greedy) in zip(pairs, got, strict=True):
        before = model.engine.prompt_ids(context)
        after = model.engine.tokenizer.encode(continuation).tolist()
        with torch.inference_mode():
            told = gpt(torch.tensor([before + after]))[0].log_softmax(-1)[len(before) - 1 : -1]
        assert logprob == pytest.approx(sum(row[i].item() for row, i in zip(told, after, strict=True)), abs=1e-3)
        assert greedy == (told.argmax(-1).tolist() == after)
