"""torch.compile for training: the whole of a shallow model, or one block for all of a deep one."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from quoth.model.gpt import GPT

# Compiling a whole model takes seconds a layer and gains some 15% of a step over compiling its blocks.
WHOLE_LAYERS = 8


def compiled(model: GPT) -> nn.Module:
    """A module that shares every parameter with the model, computes the same, and runs compiled.

    The blocks of a deep model have the same code, so one is compiled and serves for all. The original stays as it was,
    for shapes that are not worth compiling for.
    """
    if len(model.blocks) <= WHOLE_LAYERS:
        return cast(nn.Module, torch.compile(model, dynamic=False))
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view.blocks = nn.ModuleList(cast(nn.Module, torch.compile(block, dynamic=False)) for block in model.blocks)
    return view
