"""Adapters in the format of Hugging Face's PEFT: `adapter_model.safetensors` and `adapter_config.json`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quoth.model.architectures import Architecture, architecture_of
from quoth.model.gpt import GPT, Block
from quoth.model.lora import Factors, adapters
from quoth.system.errors import InputError, plain, short
from quoth.system.files import read_json
from quoth.train.tensors import read_tensors

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
# What a config may say in any way: it describes the training or the file, and not what the adapted model computes.
# Which layers are adapted is read from the tensors.
IGNORED = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *("ensure_weight_tying", "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config"),
    *("exclude_modules", "fan_in_fan_out", "layers_pattern", "layers_to_transform", "target_modules"),
}
# The other ways to initialize change the base's weights, so that the adapter fits no base that is as it was.
INITIALIZATIONS = (None, True, False, "gaussian", "eva", "orthogonal")


def adapter_tensors(model: GPT) -> dict[str, Tensor]:
    """A model's adapters by PEFT's names, for a base that was exported to Hugging Face's format.

    Where the layers that are adapted here are one layer there (GPT-2's queries, keys and values), their adapters are
    one there as well: the rows of all A, and the B along the diagonal.
    """
    found = {}
    for theirs, factors in _joined(model).items():
        found[f"{PREFIX}{theirs}.lora_A.weight"] = factors.a
        found[f"{PREFIX}{theirs}.lora_B.weight"] = factors.b
    return found


def adapter_config(model: GPT) -> dict[str, Any]:
    """What PEFT's `LoraConfig` reads for the adapters of `adapter_tensors`."""
    joined = _joined(model)
    ranks = {name: factors.a.shape[0] for name, factors in joined.items()}
    alphas = {name: factors.alpha for name, factors in joined.items()}
    rank, alpha = _usual(ranks.values()), _usual(alphas.values())
    architecture = _architecture(model)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": _targets(model, joined),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": architecture is not None and architecture.name == "gpt2",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }


def read_adapter(folder: Path, model: GPT) -> dict[str, Factors]:
    """The adapters in a folder of PEFT's format, by the names of the layers of a model that they are for.

    Raises:
        InputError: the files are missing or damaged, hold something other than LoRA of linear layers, or do not fit the
            model.
    """
    if not (folder / ADAPTER).exists() and (folder / "adapter_model.bin").exists():
        raise InputError(f"{folder} holds adapter_model.bin, a pickle, which could run code; save it as safetensors.")
    path = folder / ADAPTER_CONFIG
    config = read_json(path)
    _refuse_unknown(path, config)
    places = _places(model)
    # An adapter for a model without its head has no prefix of the whole model in its names.
    places = {**{re.sub(r"^(model|transformer)\.", "", name): names for name, names in places.items()}, **places}
    found = {}
    for theirs, a, b in _pairs(folder / ADAPTER):
        names = places.get(theirs)
        if not names:
            raise InputError(f"{folder / ADAPTER} adapts {plain(theirs)}, which is no linear layer of this base.")
        sizes = [_size(model, name) for name in names]
        outputs, inputs = [size[0] for size in sizes], sizes[0][1]
        if (a.shape[1], b.shape[0]) != (inputs, sum(outputs)):
            raise InputError(
                f"The adapter in {folder} is for another base: its {plain(theirs)} has {a.shape[1]:,} inputs and "
                f"{b.shape[0]:,} outputs, and the base's has {inputs:,} and {sum(outputs):,}."
            )
        parts = split(Factors(a, b, _alpha(path, config, theirs, a.shape[0])), outputs)
        found.update({name: part for name, part in zip(names, parts, strict=True) if part})
    if not found:
        raise InputError(f"{folder / ADAPTER} holds no adapter.")
    return found


def _targets(model: GPT, adapted: Collection[str]) -> list[str]:
    """The shortest names that PEFT finds the adapted layers by: a layer's name in a block, or else its whole name."""

    def inner(name: str) -> str:
        return re.sub(r"^.*?\.\d+\.", "", name)

    left_out = {inner(name) for name in _places(model) if name not in adapted}
    return sorted({name if inner(name) in left_out else inner(name) for name in adapted})


def _size(model: GPT, name: str) -> tuple[int, int]:
    """The outputs and inputs of a linear layer."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features


def _architecture(model: GPT) -> Architecture | None:
    """The architecture under whose names adapters are kept; None for a model that only quoth runs."""
    try:
        return architecture_of(model.config) if model.block is Block else None
    except InputError:
        return None


def _places(model: GPT) -> dict[str, tuple[str, ...]]:
    """The names of the linear layers inside blocks, by the name of the layer that holds them in PEFT's files."""
    inside = [f"blocks.{name}" for name, m in model.blocks.named_modules() if isinstance(m, nn.Linear)]
    architecture = _architecture(model)
    if architecture is None:
        return {name: (name,) for name in inside}
    found = {}
    for ours, theirs, _ in architecture.weights(model.config):
        layer, _, kind = ours.rpartition(".")
        joined = tuple(layer.replace("qkv", part) for part in ("query", "key", "value"))
        names = joined if layer.endswith(".qkv") else (layer,)
        if kind == "weight" and names[0] in inside:
            found[theirs.removesuffix(".weight")] = names
    return found


def _joined(model: GPT) -> dict[str, Factors]:
    """Each adapter by the name of its layer in PEFT's files."""
    layers, found = {name: layer.factors for name, layer in adapters(model).items()}, {}
    for theirs, names in _places(model).items():
        if any(name in layers for name in names):
            sizes = [_size(model, name) for name in names]
            found[theirs] = join([layers.get(name) for name in names], sizes)
    return found


def join(parts: Sequence[Factors | None], sizes: Sequence[tuple[int, int]]) -> Factors:
    """One adapter for a layer that joins several of the given (outputs, inputs); one without an adapter has zeros.

    Raises:
        InputError: the parts have several ranks or alphas.
    """
    first = next(part for part in parts if part)
    rank = first.a.shape[0]
    if any(part and (part.a.shape[0], part.alpha) != (rank, first.alpha) for part in parts):
        raise InputError("Queries, keys and values are one layer in GPT-2, so their adapters need one rank and alpha.")
    a = [part.a if part else first.a.new_zeros(rank, size[1]) for part, size in zip(parts, sizes, strict=True)]
    b = [part.b if part else first.b.new_zeros(size[0], rank) for part, size in zip(parts, sizes, strict=True)]
    return Factors(torch.cat(a), _block_diagonal(b), first.alpha * len(parts))


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    made: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return made


def split(factors: Factors, outputs: Sequence[int]) -> list[Factors | None]:
    """The adapters of layers with the given outputs that are one layer in PEFT's files: the inverse of `join`.

    An adapter that was trained on the joined layer is not made of blocks: all layers then have its A.
    """
    count, rank = len(outputs), factors.a.shape[0]
    rows = torch.split(factors.b, list(outputs))
    if count > 1 and rank % count == 0:
        size = rank // count
        blocks = [b[:, i * size : (i + 1) * size] for i, b in enumerate(rows)]
        if torch.equal(_block_diagonal(blocks), factors.b):
            pairs = zip(torch.split(factors.a, size), blocks, strict=True)
            return [Factors(a, b, factors.alpha / count) if a.any() else None for a, b in pairs]
    return [Factors(factors.a, b, factors.alpha) for b in rows]


def _pairs(path: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each layer's name in the file with its A and B, in float32.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    tensors = read_tensors(path)
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(rf"(?:{re.escape(PREFIX)})?(.+)\.lora_([AB])(?:\.default)?\.weight", key)
        if not match or tensor.dim() != 2 or not tensor.is_floating_point():
            raise InputError(f"{path} holds {plain(key)}, which is no part of a linear layer's adapter.")
        found.setdefault(match[1], {})[match[2]] = tensor.float()
    for layer, pair in found.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1] or not pair["A"].numel():
            raise InputError(f"{path} has no A and B of one rank for {plain(layer)}.")
        yield layer, pair["A"], pair["B"]


def _refuse_unknown(path: Path, config: Any) -> None:
    """Refuse settings that would change what the adapted model computes in a way that is not known here.

    Raises:
        InputError: the first such setting.
    """
    if not isinstance(config, dict):
        raise InputError(f"{path} is not an object.")
    read = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "bias"}
    wanted = (("peft_type", ("LORA",)), ("bias", (None, "none")), ("init_lora_weights", INITIALIZATIONS))
    for name, values in wanted:
        if config.get(name) not in values:
            raise InputError(f"{path} says {name} = {short(config.get(name))}, which quoth does not know.")
    for name, value in config.items():
        pattern = name in ("rank_pattern", "alpha_pattern") and not isinstance(value, dict)
        if (name not in read | IGNORED or pattern) and value:
            raise InputError(f"{path} says {plain(name)} = {short(value)}, which quoth does not know.")


def _alpha(path: Path, config: Mapping[str, Any], layer: str, rank: int) -> float:
    """α of a layer, for the scale α/r: PEFT's own is α/√r if `use_rslora` says so (arXiv:2312.03732).

    Raises:
        InputError: the rank is not the tensors', or there is no such number.
    """
    said = _pattern(config.get("rank_pattern"), layer, config.get("r"))
    alpha = _pattern(config.get("alpha_pattern"), layer, config.get("lora_alpha"))
    if said != rank:
        raise InputError(f"{path} says that {plain(layer)} has rank {short(said)}, and its tensors have {rank}.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not isfinite(alpha):
        raise InputError(f"{path} gives {plain(layer)} the lora_alpha {short(alpha)}, which is no number.")
    return alpha * sqrt(rank) if config.get("use_rslora") else float(alpha)


def _pattern(patterns: Any, layer: str, usual: Any) -> Any:
    """The value of the first pattern that fits a layer's name or its end, as PEFT chooses."""
    for pattern, value in (patterns or {}).items():
        with suppress(re.error):
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                return value
    return usual


def _usual(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]
