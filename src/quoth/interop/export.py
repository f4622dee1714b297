"""Write a checkpoint as a folder that other programs open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.interop.hugging_face_config import config_json
from quoth.interop.tokenizer_files import tokenizer_config_json, tokenizer_json
from quoth.interop.weights import to_hugging_face
from quoth.model.architectures import Architecture, architecture_of
from quoth.model.gpt import GPT, effective_weights
from quoth.system.errors import InputError
from quoth.system.files import as_json, new_folder
from quoth.text.tokenizer import Tokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def export_hf(folder: Path, model: GPT, tokenizer: Tokenizer, dtype: str, name: str, facts: Mapping[str, Any]) -> None:
    """Write a folder that transformers, vLLM and the like load: config, weights, tokenizer and card.

    `facts` are those of the run that made the model; the card tells them.

    Raises:
        InputError: the model has a part that these programs have no place for, or the folder may not be written.
    """
    if dtype not in DTYPES:
        raise InputError(f"Hugging Face's weights are f32, bf16 or f16, not {dtype}; {dtype} is for --to gguf.")
    c, architecture = model.config, architecture_of(model.config)
    weights = to_hugging_face(effective_weights(model), c, architecture)
    made = {theirs: tensor.to(DTYPES[dtype]).contiguous() for theirs, tensor in weights.items()}
    ends = list(tokenizer.ends)
    generation: dict[str, Any] = {"do_sample": True, "temperature": 0.8}
    if ends:
        generation |= {"eos_token_id": ends, "pad_token_id": ends[0]}
    files = {
        "config.json": config_json(c, architecture, NAMES[dtype], ends),
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": tokenizer_config_json(tokenizer, c.context),
        "generation_config.json": generation,
    }
    with new_folder(folder, sum(tensor.nbytes for tensor in made.values()) + 2**20) as aside:
        try:
            save_file(made, aside / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:  # What the system said is in its text.
            raise InputError(f"{folder} cannot be written: {error}.") from error
        for file, content in files.items():
            (aside / file).write_text(as_json(content), encoding="utf-8")
        (aside / "README.md").write_text(model_card(architecture, dtype, name, facts), encoding="utf-8")


def export_gguf(
    folder: Path, model: GPT, tokenizer: Tokenizer, dtype: str, name: str, facts: Mapping[str, Any]
) -> Path:
    """Write a file that llama.cpp and Ollama load, and a Modelfile beside it, and return the file's path.

    Raises:
        InputError: the model has a part that these programs have no place for, or the folder may not be written.
    """
    from quoth.interop.llama_cpp import write_gguf

    c, architecture = model.config, architecture_of(model.config)
    weights = to_hugging_face(effective_weights(model), c, architecture)
    file = f"{name}-{dtype}.gguf"
    with new_folder(folder, sum(tensor.nbytes for tensor in weights.values()) + 2**20) as aside:
        end = None if tokenizer.ends else least_likely_token(model, tokenizer)
        write_gguf(aside / file, weights, c, architecture, tokenizer, dtype, name, end)
        (aside / "Modelfile").write_text(modelfile(file, c.context, tokenizer), encoding="utf-8")
        (aside / "README.md").write_text(model_card(architecture, dtype, name, facts), encoding="utf-8")
    return folder / file


def least_likely_token(model: GPT, tokenizer: Tokenizer) -> int:
    """The token with the lowest mean log-probability in what the model writes by itself."""
    context = min(256, model.config.context)
    engine = Engine(model, tokenizer, slots=8)
    prompt = engine.prompt_ids("")
    free = Sampling(temperature=1.0)
    asked = [Request(prompt=prompt, tokens=max(1, context - 1), sampling=free, seed=seed) for seed in range(8)]
    written = torch.tensor([[*prompt, *made.answer][:context] for made in engine.generate(asked)])
    with torch.inference_mode():
        return int(model(written).log_softmax(-1).mean((0, 1)).argmin())


def modelfile(file: str, context: int, tokenizer: Tokenizer) -> str:
    """The text that `ollama create NAME -f Modelfile` reads. The template of a model that chats is in the GGUF file."""
    lines = [f"FROM ./{file}", f"PARAMETER num_ctx {context}", "PARAMETER temperature 0.8"]
    if not tokenizer.template:
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    return "\n".join(lines) + "\n"


def model_card(architecture: Architecture, dtype: str, name: str, facts: Mapping[str, Any]) -> str:
    """The model card, which says what the model is, what it was trained on, and how well it did."""
    loss = "validation loss, nats per token"
    rows = [
        ("architecture", architecture.name),
        ("weights", dtype),
        ("parameters", _number(facts.get("parameters"))),
        ("trained on", facts.get("data")),
        ("tokenizer", facts.get("tokenizer")),
        ("tokens seen", _number(facts.get("tokens"))),
        ("training time, seconds", _number(facts.get("seconds"))),
        (loss, f"{facts['validation_loss']:.4f}" if facts.get("validation_loss") else None),
        ("bits per byte", f"{facts['bits_per_byte']:.4f}" if facts.get("bits_per_byte") else None),
    ]
    imported = str(facts.get("data", "")).endswith("(imported)")
    own = "A GPT trained from scratch with quoth. Losses are exact, over the whole validation split."
    origin = "A model of somebody else's, imported and exported again with quoth." if imported else own
    table = "\n".join(f"| {what} | {value} |" for what, value in rows if value)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [quoth]
---
# {name}

{origin}

| | |
|---|---|
{table}
"""


def _number(value: Any) -> str | None:
    return f"{value:,.0f}" if isinstance(value, int | float) else None
