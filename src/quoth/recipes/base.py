"""The run that is tuned: its model, made ready to hold conversations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quoth.model.gpt import GPT
from quoth.model.lora import add_lora
from quoth.recipes.open_again import open_again
from quoth.recipes.recipe import read_recipe
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.warm_start import init_checkpoint
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.files import sha256_of
from quoth.text.chat import Template
from quoth.text.corpus import Corpus
from quoth.text.special import for_chat
from quoth.text.tokenizer import Tokenizer, decode
from quoth.train.adapter_checkpoint import reference
from quoth.train.checkpoint import load
from quoth.train.manifest import MANIFEST
from quoth.train.run import find_run
from quoth.tune.adapt import resized
from quoth.tune.answers import Prompt

# Models up to this size learn quickly; larger ones know much already, take seconds for an answer, and their matrices
# would cost Muon too much.
SMALL_MODEL = 20_000_000


@dataclass(frozen=True)
class Base:
    """A run's best model, with a tokenizer that has a chat template, and rows in its tables for all special tokens."""

    run: Path
    checkpoint: Path
    model: GPT
    tokenizer: Tokenizer
    template: Template

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """A conversation's ids, up to where the model's answer begins."""
        return self.template.ids(messages, self.tokenizer)

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> Prompt:
        """A conversation as a prompt."""
        return Prompt(tuple(self.prompt_ids(messages)), messages[-1]["content"])

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of a prompt or an answer, without special tokens."""
        return decode(self.tokenizer, ids)

    def text(self) -> Corpus | None:
        """The text that the model was pretrained on; None if it cannot be read any more, or was never known."""
        try:
            return open_again(self.run, read_recipe(self.run), self.tokenizer)
        except InputError:
            return None

    @property
    def facts(self) -> dict[str, str]:
        """What identifies the weights that tuning begins with."""
        return {"base": str(self.checkpoint), "base_sha256": sha256_of(self.checkpoint / MANIFEST)}


def frozen(model: GPT, hardware: Hardware) -> GPT:
    """A copy of a model that does not change with it, and has no gradients.

    Of a model with adapters only these are copied: its other weights are frozen already.
    """
    model = model.to(hardware.device)
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).eval().requires_grad_(False)


def open_base(name: str, tune: TuneConfig | None = None, *, chat: bool = True) -> Base:
    """The base that a run's folder, its name or latest stands for, with adapters if `tune` asks for them.

    Without `chat`, a model that only continues texts stays one: its tokenizer gets no chat template.

    Raises:
        InputError: there is no such run, it has no intact checkpoint, or it cannot have adapters.
    """
    run = find_run(name).resolve()
    folder = init_checkpoint(run)
    known = load(folder)
    tokenizer = for_chat(known.tokenizer) if chat else known.tokenizer
    model = resized(known.model, tokenizer.vocabulary)
    if tune and tune.lora:
        if tokenizer.vocabulary != known.model.config.vocabulary:
            raise InputError(
                f"{run.name} has no chat tokens yet, and adapters cannot teach it any, since its embedding is frozen; "
                "finetune all of it first, without --lora."
            )
        torch.manual_seed(0)  # The same adapters on all processes, and when the run goes on.
        add_lora(model, tune.lora, tune.lora_alpha or None, tune.lora_targets)
        model.base = reference(folder)
    return Base(run, folder, model, tokenizer, Template(tokenizer.template or ""))
