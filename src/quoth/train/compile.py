"""torch.compile for training: one block compiled once, and used for all of them."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from quoth.model.gpt import GPT


def compiled(model: GPT) -> GPT:
    """The same model, sharing every parameter, whose blocks run compiled.

    All blocks have the same code, so compiling one takes a third of the time of compiling a whole model, and does not
    grow with depth. The original stays as it was, for shapes that are not worth compiling for.
    """
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view.blocks = nn.ModuleList(cast(nn.Module, torch.compile(block, dynamic=False)) for block in model.blocks)
    return view
