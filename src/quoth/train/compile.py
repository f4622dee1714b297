"""torch.compile for training: it compiles a shallow model as a whole, and a deep model's blocks as one shared block."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from quoth.model.gpt import GPT
from quoth.system.device import cpp_compiler
from quoth.system.errors import InputError
from quoth.system.files import as_json, cache_folder, read_json, write_atomic
from quoth.train.parallel import is_sharding

# Compiling a whole model takes seconds for each layer, and makes a step some 15% faster than compiling its blocks does.
WHOLE_LAYERS = 8
# A compilation that torch finds in its cache takes less time than this.
CACHED_SECONDS = 8.0
# GELU takes under half the time with a tanh made of an exponential as with the library's tanh. PyTorch's own random
# numbers are the same whether code is compiled or not, and cost little if masks are shared along time.
FAST: dict[str, Any] = {"cpp.use_decompose_tanh": True, "fallback_random": True}
# Otherwise the first compilation spends seven seconds on trying which instructions the compiler knows.
TRUSTING: dict[str, Any] = {**FAST, "cpp.vec_isa_ok": True}


def compiled(model: GPT, options: dict[str, Any] = TRUSTING) -> nn.Module:
    """A module that shares every parameter with the model, computes the same, and runs compiled.

    The blocks of a deep model have the same code, so one compiled block serves for all. The model itself does not
    change, and can be used for shapes that are not worth compiling for. `options` is TRUSTING, or FAST for an old
    compiler that does not know all of the processor's instructions.
    """
    options = {**options, **tuning()} if next(model.parameters()).device.type == "cpu" else {}
    # A sharded model cannot be copied; its graph breaks at each block anyway, where the next block is gathered.
    if len(model.blocks) <= WHOLE_LAYERS or is_sharding(model):
        return cast(nn.Module, torch.compile(model, dynamic=False, options=options))
    view = copy.copy(model)
    view._modules = dict(model._modules)
    view.blocks = nn.ModuleList(
        cast(nn.Module, torch.compile(block, dynamic=False, options=options)) for block in model.blocks
    )
    return view


@cache
def tuning() -> dict[str, Any]:
    """Options that name CXX's compiler, and that choose a processor to tune for if the compiler does not know this one.

    For a processor that it does not know, GCC tunes generically. GCC 12 then computes wrong gradients of rotated keys
    in bfloat16; tuned for any processor that it knows, it computes right ones.
    """
    compiler = cpp_compiler()
    if not compiler:
        return {}
    # By itself, torch.compile would take all of CXX as the name of a program, without arguments.
    named: dict[str, Any] = {"cpp.cxx": (None, compiler)} if os.environ.get("CXX") else {}
    if platform.machine() != "x86_64":
        return named
    asked = [compiler, "-march=native", "-Q", "--help=target"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    generic = said[said.index("-mtune=") + 1] == "generic" if "-mtune=" in said[:-1] else False
    return {**named, **({"cpp.march": "native -mtune=haswell"} if generic else {})}


def last_compile() -> dict[str, float]:
    """The `seconds` and `layers` of the last long compilation on this machine; empty if there was none."""
    try:
        said = read_json(_record())
        return {name: float(said[name]) for name in ("seconds", "layers")}
    except (InputError, KeyError, TypeError, ValueError):
        return {}


def remember_compile(seconds: float, layers: int) -> None:
    """Save how long compiling took, unless it was so short that torch must have found most of it in its cache."""
    if seconds > CACHED_SECONDS:
        with suppress(InputError, OSError):
            _record().parent.mkdir(parents=True, exist_ok=True)
            write_atomic(_record(), as_json({"seconds": round(seconds, 1), "layers": layers}))


def _record() -> Path:
    return cache_folder() / "compile.json"
