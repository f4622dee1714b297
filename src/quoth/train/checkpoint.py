"""A checkpoint is a folder: weights, config, tokenizer, state, and a manifest of what each file must hash to."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.system.files import new_folder, read_json, sha256_of, write_atomic
from quoth.text.tokenizer import Tokenizer
from quoth.text.tokenizer import read as read_tokenizer
from quoth.train.optimizers import Together

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's folder holds: a model in evaluation mode, its tokenizer, and where the run stood."""

    model: GPT
    tokenizer: Tokenizer
    state: dict[str, Any]
    folder: Path


def save(
    folder: Path, model: GPT, tokenizer: Tokenizer, state: dict[str, Any], optimizer: Together | None = None
) -> None:
    """Write a checkpoint that is whole or absent.

    `state` is JSON: the step, the loss, whatever a run needs to go on. The optimizer goes along where it is given.

    Raises:
        InputError: the disk is full or the folder may not be written.
    """
    with new_folder(folder) as aside:
        save_file(_distinct(model), aside / "model.safetensors")
        _write_json(aside / "config.json", dataclasses.asdict(model.config))
        (aside / "tokenizer.json").write_text(tokenizer.dump(), encoding="utf-8")
        _write_json(aside / "state.json", state)
        if optimizer is not None:
            save_file(_flat(optimizer), aside / "optimizer.safetensors")
        _write_json(aside / MANIFEST, {file.name: sha256_of(file) for file in sorted(aside.iterdir())})


def load(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint, every file checked against the manifest.

    Raises:
        InputError: it is missing, damaged, or from another kind of model.
    """
    verify(folder)
    values = read_json(folder / "config.json")
    try:
        config = GPTConfig(**values)
    except TypeError as error:
        raise InputError(f"{folder / 'config.json'} is not a config of this version of quoth: {error}.") from error
    model = GPT(config)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=not config.tied)
    model.to(device)
    return Checkpoint(model.eval(), read_tokenizer(folder), read_json(folder / "state.json"), folder)


def load_optimizer(folder: Path, optimizer: Together) -> None:
    """Put the saved state into an optimizer of the same model.

    Raises:
        InputError: the checkpoint holds no optimizer.
    """
    path = folder / "optimizer.safetensors"
    if not path.exists():
        raise InputError(f"{folder} holds no optimizer, so a run cannot go on from it.")
    flat = load_file(path)
    states = optimizer.state_dict()
    for number, state in enumerate(states):
        loaded: dict[int, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            part, index, name = key.split(".")
            if int(part) == number:
                loaded.setdefault(int(index), {})[name] = tensor
        state["state"] = loaded
    optimizer.load_state_dict(states)


def verify(folder: Path) -> None:
    """Check that the folder's files are the ones its manifest lists, bit for bit.

    Raises:
        InputError: a file is missing or differs.
    """
    if not folder.is_dir():
        raise InputError(f"There is no checkpoint {folder}.")
    for name, digest in read_json(folder / MANIFEST).items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise InputError(f"The checkpoint {folder} is broken: {name} is missing or was changed since it was saved.")


class Keeper:
    """Keeps a run's best and last checkpoints, under `checkpoints/`, each written before an older one goes.

    `checkpoints/kept.json` says which folder is which.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"
        self.kept: dict[str, str] = read_json(self.folder / "kept.json") if (self.folder / "kept.json").exists() else {}

    def save(self, model: GPT, tokenizer: Tokenizer, state: dict[str, Any], optimizer: Together, *, best: bool) -> Path:
        """Save as the last checkpoint, and as the best if it is; `state` has the step."""
        name = f"step-{state['step']:06d}"
        save(self.folder / name, model, tokenizer, state, optimizer)
        self.kept = {**self.kept, "last": name, **({"best": name} if best else {})}
        write_atomic(self.folder / "kept.json", json.dumps(self.kept))
        for old in self.folder.glob("step-*"):
            if old.name not in self.kept.values():
                shutil.rmtree(old, ignore_errors=True)
        return self.folder / name


def kept(run: Path, which: str = "best") -> Path:
    """The folder of a run's best or last checkpoint.

    Raises:
        InputError: the run has none.
    """
    path = run / "checkpoints" / "kept.json"
    if not path.exists():
        raise InputError(f"The run {run} has no checkpoint yet.")
    folders: dict[str, str] = read_json(path)
    return run / "checkpoints" / (folders.get(which) or folders["last"])


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _distinct(model: GPT) -> dict[str, Tensor]:
    """The weights, tied ones once: safetensors refuses shared memory."""
    state = model.state_dict()
    if model.config.tied:
        del state["head.weight"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _flat(optimizer: Together) -> dict[str, Tensor]:
    return {
        f"{part}.{index}.{name}": tensor.contiguous()
        for part, state in enumerate(optimizer.state_dict())
        for index, values in state["state"].items()
        for name, tensor in values.items()
    }
