"""Runs that trained adapters, for tests."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from torch import nn

from quoth.model.lora import adapters, add_lora
from quoth.recipes.state import RunState
from quoth.train.adapter_checkpoint import reference
from quoth.train.checkpoint import load, save
from quoth.train.keeper import Keeper, kept


def tune(base: Path, run: Path) -> Path:
    """A run with adapters of another run, which change a lot."""
    found = load(kept(base))
    add_lora(found.model, 4)
    torch.manual_seed(1)
    for layer in adapters(found.model).values():
        nn.init.normal_(layer.lora_B, std=0.5)
    found.model.base = reference(found.folder)
    keeper = Keeper(run)
    save(keeper.path(3), found.model, found.tokenizer, dataclasses.asdict(RunState(step=3)))
    keeper.mark_best(3)
    shutil.copy(base / "config.toml", run / "config.toml")
    return run


def peft_folder(run: Path, folder: Path) -> Path:
    """The adapters of a run as PEFT keeps them, and nothing else."""
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(kept(run) / name, folder / name)
    return folder
