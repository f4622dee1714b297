"""Exports and imports against transformers: the same ids, logits and greedy tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from generate.models import model
from model.adapters import adapt
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.interop.export import export_hf
from quoth.interop.importing import import_model
from quoth.model.architectures import architecture_of
from quoth.system.errors import InputError
from quoth.text.tokenizer import Bytes, Characters, Tokenizer, decode, train_bpe

TEXT = "The king said: speak, or be for ever still! 'Tis night; the sea's asleep, and 1603 is come.\n"
ACCENTED = "Où l'œil naïf rêve — 海, море, 🎭 ▁\n"

MODELS = {
    "qwen3": ("modern", {}),
    "qwen3 tied": ("modern", {"tied": True, "kv_heads": 1, "head_size": 12}),
    "llama": ("modern", {"qk_norm": False}),
    "qwen2": ("modern", {"qk_norm": False, "bias_qkv": True}),
    "gpt2": ("gpt2", {}),
    "gpt2 untied, without biases": ("gpt2", {"tied": False, "bias": False, "bias_qkv": False}),
    "lecture": ("lecture", {"width": 64}),
}


def characters() -> Tokenizer:
    return Characters(TEXT)


def accented() -> Tokenizer:
    return Characters(TEXT + ACCENTED)


def bpe() -> Tokenizer:
    return train_bpe(300, iter([TEXT * 3]))


TOKENIZERS = {"characters": characters, "accented": accented, "bytes": Bytes, "bpe": bpe}


def made(name: str, tokenizer: Tokenizer) -> Any:
    kind, given = MODELS[name]
    given = {"context": 96, "kv_heads": 4 if kind != "modern" else 2, **given}
    gpt = model(kind, vocabulary=tokenizer.vocabulary, **given)
    for p in gpt.parameters():  # Sure of itself, so that the likeliest token is never a matter of rounding.
        p.data *= 0.7
    return gpt


def greedy(gpt: Any, tokenizer: Tokenizer, ids: list[int], tokens: int) -> list[int]:
    request = Request(prompt=ids, tokens=tokens, sampling=Sampling(temperature=0))
    return Engine(gpt, tokenizer, compiled=True, threads=1).generate([request])[0].answer


@pytest.mark.parametrize("name", MODELS)
def test_an_export_is_the_model_in_transformers_and_comes_back(name: str, tmp_path: Path) -> None:
    tokenizer = bpe() if name == "gpt2" else characters()
    gpt = made(name, tokenizer)
    export_hf(tmp_path / "out", gpt, tokenizer, "f32", "tiny", {"validation_loss": 1.5})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.encode(TEXT[:30]).tolist()
    assert their_tokenizer(TEXT[:30])["input_ids"] == ids
    with torch.inference_mode():
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, gpt(torch.tensor([ids])), atol=1e-4, rtol=0)
        made_by_them = theirs.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False)[0, len(ids) :].tolist()
    assert greedy(gpt, tokenizer, ids, 64) == made_by_them
    back, back_tokenizer = import_model(tmp_path / "out")
    assert back_tokenizer.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    with torch.inference_mode():
        torch.testing.assert_close(back(torch.tensor([ids])), gpt(torch.tensor([ids])), atol=1e-5, rtol=0)
    if "lecture" not in name and "without" not in name:
        same = {"family": "", "dropout": 0.0, "dropout_shape": "channel", "initialization": "zero"}
        assert back.config.replace(**same) == gpt.config.replace(**same)


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_an_adapter_goes_along_in_the_weights_or_is_refused(name: str, tmp_path: Path) -> None:
    tokenizer, ids = characters(), torch.tensor([characters().encode(TEXT[:30]).tolist()])
    gpt = made(name, tokenizer)
    adapt(gpt, "parametrized")
    export_hf(tmp_path / "out", gpt, tokenizer, "f32", "tiny", {})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids).logits, gpt(ids), atol=1e-3, rtol=1e-4)
    adapt(wrapped := made(name, tokenizer), "wrapped")
    with pytest.raises(InputError, match=r"The model's blocks\.0\.attention\.query is not the part that its config"):
        export_hf(tmp_path / "no", wrapped, tokenizer, "f32", "tiny", {})
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizer_gives_the_same_ids_and_text(kind: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[kind]()
    export_hf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    _, back = import_model(tmp_path / "out")
    texts = [TEXT, TEXT[5:], " two  spaces\n\n"] if kind != "characters" else [TEXT, TEXT[7:20]]
    for text in [*texts, *([ACCENTED] if kind != "characters" else [])]:
        if kind == "accented" and "two" in text:
            continue
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode(text).tolist()
        assert theirs.decode(ids) == text == decode(back, ids)
        assert back.encode(text).tolist() == ids


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 0.05), ("f16", 0.01)])
def test_smaller_types(dtype: str, bound: float, tmp_path: Path) -> None:
    tokenizer = characters()
    gpt = made("qwen3", tokenizer)
    export_hf(tmp_path / "out", gpt, tokenizer, dtype, "tiny", {})
    back, _ = import_model(tmp_path / "out")
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert (back(ids) - gpt(ids)).norm() / gpt(ids).norm() < bound
    half = sum(t.nbytes for t in load_file(tmp_path / "out" / "model.safetensors").values())
    assert half == 2 * gpt.parameters_count


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"positions": "none"}, "without positions runs nowhere else"),
        ({"mlp": "gelu"}, "can be exported with --mlp swiglu only, and this one has gelu"),
        ({"norm": "none"}, "--norm rmsnorm only"),
        ({"bias": True}, "--bias false only"),
        ({"bias_qkv": True}, "with one of them"),
        ({"positions": "learned", "norm": "layernorm", "mlp": "gelu", "qk_norm": False}, "--kv-heads 4 only"),
    ],
)
def test_what_fits_nowhere_says_why(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        architecture_of(model("modern", **given).config)


def test_a_heads_bias_that_cannot_be_folded(tmp_path: Path) -> None:
    gpt = model("lecture", vocabulary=200, kv_heads=4)
    with pytest.raises(InputError, match="with more tokens than channels it cannot be folded"):
        export_hf(tmp_path / "out", gpt, Bytes(), "f32", "tiny", {})
    assert not (tmp_path / "out").exists()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    tokenizer = bpe()
    export_hf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})
    return tmp_path / "out"


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mamba"}, "of the kind 'mamba'; quoth knows qwen3, qwen2, llama, gpt2"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "yarn"}}, r"stretches its rotary positions \(yarn\)"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": 40}, "its shape asks for"),
        ({"vocab_size": 10}, "tokenizer of 300 tokens for a model of 10"),
        ({"num_hidden_layers": 5}, "no model.layers.2"),
    ],
)
def test_a_foreign_config_is_refused(exported: Path, changes: dict[str, Any], said: str) -> None:
    edit(exported, **changes)
    with pytest.raises(InputError, match=said):
        import_model(exported)


def test_broken_folders_are_refused(exported: Path, tmp_path: Path) -> None:
    weights = exported / "model.safetensors"
    tensors, whole = load_file(weights), weights.read_bytes()
    del tensors["model.norm.weight"]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"no model\.norm\.weight"):
        import_model(exported)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        import_model(exported)
    weights.unlink()
    (exported / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"only pytorch_model\.bin, a pickle"):
        import_model(exported)
    (exported / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        import_model(exported)
    with pytest.raises(InputError, match=r"no config\.json"):
        import_model(tmp_path)
    with pytest.raises(InputError, match="There is no"):
        import_model(tmp_path / "nothing")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Evil()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is a pickle, which can run code"):
        import_model(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_ends_and_template_come_along(exported: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    (exported / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}})
    )
    (exported / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    _, tokenizer = import_model(exported)
    assert list(tokenizer.ends) == [5, 7]
    from quoth.text.chat import Template

    assert tokenizer.template
    assert Template(tokenizer.template).text([{"role": "user", "content": "hi"}]) == "<s>[user]hi</s>"
