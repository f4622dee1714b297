"""Training a topic's small model: with progress, and once only, since the trained weights are kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from quoth.system.errors import InputError
from quoth.system.files import cache_folder, new_folder
from quoth.train.loop import Step
from quoth.train.manifest import seal, verify
from quoth.train.tensors import read_tensors

M = TypeVar("M", bound=nn.Module)
# Called with what is being done, how many steps of it are done, and how many there are.
Progress = Callable[[str, int, int], None]
WEIGHTS = "model.safetensors"


def learn(model: M, steps: Iterator[Step], total: int, folder: Path, about: str, progress: Progress) -> M:
    """The model in evaluation mode after `total` steps, whose weights come from `folder` where it holds them whole.

    `steps` trains the model, one step for each item. A folder that is missing or damaged is written anew; one that
    cannot be written costs the next call the same time again, and nothing else.
    """
    if not _read(folder, model):
        progress(about, 0, total)
        for step in steps:
            progress(about, step.number, total)
        _write(folder, model)
    return model.eval()


def folder_for(model: nn.Module, x_BT: Tensor, data: NDArray[np.integer], *decides: object) -> Path:
    """The folder of a model's trained weights: its name is a hash of all that decides them.

    The model is told apart by its config and by the logits that it has for `x_BT` before training, which depend on
    the code of its blocks as well as on its first weights.
    """
    with torch.no_grad():
        logit_BTV = model.eval()(x_BT)
    digests = [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in (logit_BTV.numpy(), data)]
    known = [version("quoth"), torch.__version__, repr(getattr(model, "config", "")), *digests, *map(repr, decides)]
    return cache_folder() / "lessons" / hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]


def _read(folder: Path, model: nn.Module) -> bool:
    """Whether the folder holds the model's weights, all of which are then put into the model."""
    try:
        verify(folder)
        saved = read_tensors(folder / WEIGHTS)
    except InputError:
        return False
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(saved[name])
    return True


def _write(folder: Path, model: nn.Module) -> None:
    with suppress(InputError, SafetensorError), new_folder(folder) as aside:
        save_file({name: weight.detach().contiguous() for name, weight in model.named_parameters()}, aside / WEIGHTS)
        seal(aside)
