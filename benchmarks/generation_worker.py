"""One measurement of `benchmarks.generation`, in a process of its own: its threads and its memory are nobody else's."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPERATURE = 0.8
FORMS = {"f32": "float32", "bf16": "bfloat16", "int8": "int8"}


def make(folder: Path, shape: str) -> None:
    """Random weights of GPT-2's shape, in all the forms that are read."""
    import torch

    from quoth.interop.export import export_gguf, export_hf
    from quoth.model.config import family
    from quoth.model.gpt import GPT
    from quoth.text.tokenizer import Bytes, Characters, gpt2
    from quoth.train.checkpoint import save

    dimensions, vocabulary = shape.split(",")
    layers, width, context = map(int, dimensions.split("x"))
    torch.manual_seed(1)
    model = GPT(family("gpt2", vocabulary=int(vocabulary), layers=layers, width=width, context=context))
    letters = Characters("".join(map(chr, range(33, 98))))
    tokenizer = letters if vocabulary == "65" else Bytes() if vocabulary == "256" else gpt2()
    save(folder / "ours", model, tokenizer, {})
    export_hf(folder / "hf", model, tokenizer, "f32", "tiny", {})
    for dtype in ("f32", "bf16", "q8_0"):
        export_gguf(folder / dtype, model, tokenizer, dtype, "tiny", {})


def quoth(folder: Path, form: str, threads: int, *, compiled: bool = True) -> Callable[[int], None]:
    import torch

    from quoth.generate.engine import Engine
    from quoth.generate.request import Request
    from quoth.generate.sampling import Sampling
    from quoth.train.checkpoint import load

    torch.set_num_threads(1 if compiled else threads)
    kept = load(folder / "ours")
    weights: Any = FORMS[form]
    engine = Engine(kept.model, kept.tokenizer, weights=weights, threads=threads, compiled=compiled)
    sampling = Sampling(temperature=TEMPERATURE)

    def write(tokens: int) -> None:
        (made,) = engine.generate([Request(prompt=[1], tokens=tokens, sampling=sampling)])
        assert len(made.answer) == tokens

    return write


def nanogpt(folder: Path, threads: int, checkout: str) -> Callable[[int], None]:
    """nanoGPT's own model and its own `generate`."""
    sys.path.insert(0, checkout)
    import torch
    from model import GPT, GPTConfig  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    config = json.loads((folder / "hf" / "config.json").read_text())
    shape = {"block_size": "n_positions", "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd"}
    made = GPT(GPTConfig(**{ours: config[theirs] for ours, theirs in shape.items()}, vocab_size=config["vocab_size"]))
    turned = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    weights = {n: t.T if n.endswith(turned) else t for n, t in load_file(folder / "hf" / "model.safetensors").items()}
    missing = made.load_state_dict(weights, strict=False).missing_keys
    assert all("lm_head" in name or name.endswith(".attn.bias") for name in missing)
    made.eval()

    def write(tokens: int) -> None:
        with torch.no_grad():
            made.generate(torch.tensor([[1]]), tokens, temperature=TEMPERATURE)

    return write


def transformers(folder: Path, threads: int) -> Callable[[int], None]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    made = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()
    made.generation_config.eos_token_id = None

    def write(tokens: int) -> None:
        with torch.inference_mode():
            made.generate(torch.tensor([[1]]), max_new_tokens=tokens, do_sample=True, temperature=TEMPERATURE, top_k=0)

    return write


def llama_cpp(folder: Path, dtype: str, threads: int) -> Callable[[int], None]:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    (file,) = (folder / dtype).glob("*.gguf")
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(file), 1024, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(parameters)

    def write(tokens: int) -> None:
        asked = {"prompt": [1], "n_predict": tokens, "temperature": TEMPERATURE, "ignore_eos": True, "top_k": 0}
        said = server.handle_completions({**asked, "top_p": 1.0, "min_p": 0.0, "cache_prompt": False})
        assert said["usage"]["completion_tokens"] == tokens if "usage" in said else said["tokens_predicted"] == tokens

    return write


def measure(folder: Path, kind: str, threads: int, tokens: int, checkout: str) -> float:
    """Tokens a second, after a warm-up."""
    who, *_, form = kind.split()
    if who == "quoth":
        write = quoth(folder, form, threads, compiled="torch" not in kind)
    elif who == "nanoGPT":
        write = nanogpt(folder, threads, checkout)
    elif who == "transformers":
        write = transformers(folder, threads)
    else:
        write = llama_cpp(folder, form, threads)
    write(min(tokens, 32))
    began, times = time.perf_counter(), []
    while not times or (time.perf_counter() - began < 1.0 and len(times) < 20):
        start = time.perf_counter()
        write(tokens)
        times.append(time.perf_counter() - start)
    return tokens / min(times)


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "make":
        make(Path(place), rest[0])
        print("{}")
    else:
        rate = measure(Path(place), rest[0], int(rest[1]), int(rest[2]), rest[3])
        print(json.dumps({"tokens_per_second": rate}), flush=True)
        os._exit(0)  # Some libraries hang in their own ends.
