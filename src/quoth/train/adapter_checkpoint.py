"""Checkpoints of adapters: they hold the adapters alone, and name the checkpoint whose weights the adapters change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from quoth.model.gpt import GPT
from quoth.model.lora import Base, Factors, is_adapted, set_factors
from quoth.system.errors import InputError
from quoth.system.files import as_json, read_json, sha256_of
from quoth.train.manifest import MANIFEST, verify
from quoth.train.parallel import own, spread
from quoth.train.peft_format import ADAPTER, ADAPTER_CONFIG, adapter_config, adapter_tensors

BASE = "base.json"


def has_base(folder: Path) -> bool:
    """Whether a checkpoint holds adapters, and its base is elsewhere."""
    return (folder / BASE).exists()


def reference(folder: Path) -> Base:
    """The reference by which adapters name a checkpoint as their base.

    Raises:
        InputError: the checkpoint has no manifest.
    """
    return Base(str(folder.resolve()), sha256_of(folder / MANIFEST))


def files_of_adapters(model: GPT) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """The files of a model's adapters: tensors by file and name, and texts by file."""
    assert model.base
    config = {**adapter_config(model), "base_model_name_or_path": model.base.folder}
    texts = {ADAPTER_CONFIG: as_json(config), BASE: as_json(dataclasses.asdict(model.base))}
    return {ADAPTER: adapter_tensors(model)}, texts


def read_base(folder: Path) -> Base:
    """The reference to its base that a checkpoint of adapters holds.

    Raises:
        InputError: the reference is missing or damaged.
    """
    try:
        return Base(**read_json(folder / BASE))
    except TypeError as error:
        raise InputError(f"{folder / BASE} does not name a base: {error}.") from error


def base_of(folder: Path) -> Path:
    """The base of a checkpoint of adapters, after every file of the base is checked.

    The base may have moved together with the checkpoint, as when a folder of runs was moved.

    Raises:
        InputError: the base is missing, damaged, or no longer what the adapters were trained on.
    """
    base = read_base(folder)
    wanted, here = Path(base.folder), folder.resolve().parents
    moved = [here[2] / Path(*wanted.parts[-3:])] if len(here) > 2 else []
    found = [place for place in (wanted, *moved) if (place / MANIFEST).is_file()]
    if not found:
        raise InputError(
            f"{folder} holds adapters for the base {wanted}, which is missing; move it back there, since adapters are "
            "of no use without their base."
        )
    same = [place for place in found if reference(place).sha256 == base.sha256]
    if not same:
        raise InputError(f"{folder} holds adapters for the base {found[0]}, which was changed since they were trained.")
    verify(same[0])
    return same[0]


def base_problems(folder: Path) -> Iterator[str]:
    """A sentence if a checkpoint holds adapters and something is wrong with their base."""
    if has_base(folder):
        try:
            base_of(folder)
        except InputError as error:
            yield str(error)


@torch.no_grad()
def take_adapters(model: GPT, given: dict[str, Factors]) -> None:
    """Give adapters' values to an adapted model's adapters, or add them to a plain model's weights, sharded or not.

    Raises:
        InputError: the model has other adapters.
    """
    if is_adapted(model):
        set_factors(model, given)
        return
    for name, factors in given.items():
        weight = model.get_submodule(name).get_parameter("weight")
        own(weight).add_(own(spread(factors.update.to(weight), weight)))
