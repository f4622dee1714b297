"""torch.compile for training: the whole of a shallow model, or one block for all of a deep one."""

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

# Compiling a whole model takes seconds a layer and gains some 15% of a step over compiling its blocks.
WHOLE_LAYERS = 8
# A compilation that torch finds in its cache takes less.
CACHED_SECONDS = 8.0
# GELU with a tanh made of an exponential takes under half the time of one with the library's.
# Random numbers by PyTorch itself are the same compiled or not, and cost little where masks are shared along time.
FAST: dict[str, Any] = {"cpp.use_decompose_tanh": True, "fallback_random": True}
# Without trust, the first compilation spends seven seconds on trying which instructions the compiler knows.
TRUSTING: dict[str, Any] = {**FAST, "cpp.vec_isa_ok": True}


def compiled(model: GPT, options: dict[str, Any] = TRUSTING) -> nn.Module:
    """A module that shares every parameter with the model, computes the same, and runs compiled.

    The blocks of a deep model have the same code, so one is compiled and serves for all. The original stays as it was,
    for shapes that are not worth compiling for. `options` is TRUSTING, or FAST where the compiler is an old one that
    does not know all that the processor can do.
    """
    options = {**options, **tuning()} if next(model.parameters()).device.type == "cpu" else {}
    # A sharded one cannot be copied; it is cut at each block anyway, to gather the next.
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
    """Options for the compiler that CXX names, and for a processor that is newer than GCC, which tunes for any then.

    GCC 12 so tuned makes wrong numbers of the gradients of rotated keys in bfloat16; tuned for any processor that it
    knows, right ones.
    """
    compiler = cpp_compiler()
    if not compiler:
        return {}
    # What torch.compile would take from CXX by itself is a program without arguments.
    named: dict[str, Any] = {"cpp.cxx": (None, compiler)} if os.environ.get("CXX") else {}
    if platform.machine() != "x86_64":
        return named
    asked = [compiler, "-march=native", "-Q", "--help=target"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    generic = said[said.index("-mtune=") + 1] == "generic" if "-mtune=" in said[:-1] else False
    return {**named, **({"cpp.march": "native -mtune=haswell"} if generic else {})}


def last_compile() -> dict[str, float]:
    """How long compiling took here when it last took long, in `seconds`, and for how many `layers`; else nothing."""
    try:
        said = read_json(_record())
        return {name: float(said[name]) for name in ("seconds", "layers")}
    except (InputError, KeyError, TypeError, ValueError):
        return {}


def remember_compile(seconds: float, layers: int) -> None:
    """Keep how long compiling took, unless it was so short that most of it was found in torch's cache."""
    if seconds > CACHED_SECONDS:
        with suppress(InputError, OSError):
            _record().parent.mkdir(parents=True, exist_ok=True)
            write_atomic(_record(), as_json({"seconds": round(seconds, 1), "layers": layers}))


def _record() -> Path:
    return cache_folder() / "compile.json"
