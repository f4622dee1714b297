"""A GPT from scratch, spelled out.

A corpus yields windows; a model turns tokens into logits; an objective sums what counts; `fit` yields steps; a
checkpoint is a folder; an engine streams tokens. The names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from quoth.generate.engine import Engine
    from quoth.generate.request import Request
    from quoth.generate.sampling import Sampling
    from quoth.model.config import GPTConfig, family
    from quoth.model.gpt import GPT
    from quoth.system.errors import InputError
    from quoth.text.corpus import Corpus, corpus
    from quoth.train.checkpoint import load, save
    from quoth.train.evaluate import evaluate
    from quoth.train.loop import fit
    from quoth.train.objectives import next_token, token_loss
    from quoth.train.optimizers import OptimizerConfig, make_optimizer

_HOME = {
    "Corpus": "text.corpus",
    "Engine": "generate.engine",
    "GPT": "model.gpt",
    "GPTConfig": "model.config",
    "InputError": "system.errors",
    "OptimizerConfig": "train.optimizers",
    "Request": "generate.request",
    "Sampling": "generate.sampling",
    "corpus": "text.corpus",
    "evaluate": "train.evaluate",
    "family": "model.config",
    "fit": "train.loop",
    "load": "train.checkpoint",
    "make_optimizer": "train.optimizers",
    "next_token": "train.objectives",
    "save": "train.checkpoint",
    "token_loss": "train.objectives",
}

__all__ = [
    "GPT",
    "Corpus",
    "Engine",
    "GPTConfig",
    "InputError",
    "OptimizerConfig",
    "Request",
    "Sampling",
    "corpus",
    "evaluate",
    "family",
    "fit",
    "load",
    "make_optimizer",
    "next_token",
    "save",
    "token_loss",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("quoth")
    if name not in _HOME:
        raise AttributeError(f"module 'quoth' has no attribute {name!r}")
    return getattr(import_module(f"quoth.{_HOME[name]}"), name)
