"""Distillation: the stage in which a model learns the distributions of another run's model, its teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base
from quoth.recipes.judging import Judging
from quoth.recipes.load_engine import tell_why_not
from quoth.recipes.load_run import load_run
from quoth.recipes.recipe import Recipe
from quoth.recipes.sft import LONGEST_ROW, row_length
from quoth.recipes.stage import Judgement, Stage
from quoth.recipes.tuning_data import Split, conversations
from quoth.system.device import Hardware
from quoth.system.errors import InputError, Interrupted
from quoth.system.files import sha256_of
from quoth.system.words import count
from quoth.system.world import World
from quoth.text.batches import Windows
from quoth.text.corpus import Corpus, corpus
from quoth.text.packing import Example, PackedRows
from quoth.text.tokenizer import Tokenizer
from quoth.train.distillation import distillation
from quoth.tune.read import is_rows

# How much of a text's validation split judges a model, and how many rows are judged at once.
HELD_TOKENS, JUDGED = 32_768, 16


@dataclass(frozen=True)
class DistillData(Split[Example]):
    """What a model is distilled on: conversations; or a text, of which `training` then is empty.

    Attributes:
        text: the text, if it is one.
        row: how many tokens a row of a batch has.
    """

    text: Corpus | None = None
    row: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens there are to learn from."""
        return len(self.text.train) if self.text else sum(min(one.places, self.row) for one in self.training)


def distill_data(base: Base, known: Mapping[str, Any]) -> DistillData:
    """Conversations from rows and from exports of chats; any other data is text, as for `quoth train`.

    Raises:
        InputError: the data cannot be read.
    """
    context = base.model.config.context
    if is_rows(known["data"]) or known["me"]:
        found = conversations(base, known)
        return DistillData(**vars(found), row=row_length([*found.training, *found.held_out], context))
    row = min(context, LONGEST_ROW)
    reading = {name: known[name] for name in ("separator", "column", "keep_newlines") if name in known}
    text = corpus(known["data"], base.tokenizer, **reading)
    held = text.validation[: known.get("validation_tokens") or HELD_TOKENS].tolist()
    if len(held) < 2:
        raise InputError(f"{known['data']} is too short: nothing of it is left to judge the model by.")
    windows = [held[at : at + row + 1] for at in range(0, len(held) - 1, row)]
    examples = [Example(ids, [1.0] * len(ids)) for ids in windows]
    facts = {"data_sha256": text.manifest["text_sha256"]}
    return DistillData(text.name, [], examples, facts=facts, remarks=text.remarks, text=text, row=row)


def distill_stage(recipe: Recipe, base: Base, data: DistillData, hardware: Hardware, world: World) -> Stage:
    """The stage in which a model learns what its teacher would say next at every place (Hinton et al. 2015)."""
    run, tune = recipe.run, recipe.tune
    assert tune
    name, teacher, facts = _teacher(tune.teacher, base, data.row, hardware)
    shape: dict[str, Any] = {"batch": run.batch, "accumulate": run.accumulate, "context": data.row, "seed": run.seed}
    shape |= {"world": world, "device": hardware.device}
    batches: Windows | PackedRows
    if data.text:
        batches = Windows(data.text.train, **shape)
        about = f"{count(len(data.text.train))} tokens of text for training"
    else:
        batches = PackedRows(data.training, **shape)
        about = f"{count(len(data.training))} conversations for training"
    answering = Answering(recipe, base, data.prompts, hardware)
    judging = _judging(recipe, teacher, data, hardware, answering)
    return Stage(
        batches,
        distillation(teacher, tune.temperature, tune.alpha),
        judging.judge,
        _continuing(base, run.seed) if data.text else answering.sample,
        lambda: batches[0][0],
        tokens_per_step=batches.tokens_per_step,
        tokenizer=base.tokenizer,
        data=data.name,
        about=f"{data.name}: {about}, {_held(data)} held out; the teacher is {name}",
        facts={**base.facts, **data.facts, **facts},
        per_step=f"{run.batch * run.accumulate} rows of {data.row} tokens",
        loss_is=judging.loss_is,
        try_it='quoth sample {} --prompt "..."' if data.text else "quoth chat {}",
        model=base.model,
    )


def distill_judging(recipe: Recipe, base: Base, data: DistillData, hardware: Hardware, world: World) -> Judging:
    """How far a model is from its teacher, and from the text itself, at every held-out target."""
    assert recipe.tune
    _, teacher, _ = _teacher(recipe.tune.teacher, base, data.row, hardware)
    return _judging(recipe, teacher, data, hardware, Answering(recipe, base, data.prompts, hardware))


def _judging(recipe: Recipe, teacher: GPT, data: DistillData, hardware: Hardware, answering: Answering) -> Judging:
    tune = recipe.tune
    assert tune
    held = PackedRows(data.held_out, batch=1, context=data.row, seed=0, device=hardware.device)
    objective = distillation(teacher, tune.temperature, tune.alpha)

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        totals: dict[str, float] = {"loss": 0.0, "kl": 0.0, "cross_entropy": 0.0}
        model.eval()
        with torch.no_grad(), hardware.autocast():
            for batch in held.once(JUDGED):
                if not go_on():
                    raise Interrupted
                found = objective(model, batch)
                assert isinstance(found, tuple)
                for name, value in {"loss": found[0], **found[1]}.items():
                    totals[name] += value.item()
        loss, *metrics = (total / held.targets for total in totals.values())
        return Judgement(loss, {"kl": metrics[0], "cross_entropy": metrics[1], **answering.metrics(model)})

    return Judging(judge, f"{_formula(tune.temperature, tune.alpha)} per held-out token")


def _formula(temperature: float, alpha: float) -> str:
    """The loss in words."""
    if alpha == 1:
        return "nats of cross entropy"
    factor = "" if temperature == 1 else f"{temperature:g}² "
    if not alpha:
        return f"nats of {factor}KL from the teacher"
    return f"nats of {1 - alpha:g} × {factor}KL from the teacher + {alpha:g} × cross entropy"


def _held(data: DistillData) -> str:
    return f"{sum(one.targets for one in data.held_out):,.0f} tokens" if data.text else count(len(data.held_out))


def _continuing(base: Base, seed: int) -> Callable[[GPT, int, Callable[[str], None]], str]:
    """What writes a sample of a model that continues texts."""

    def sample(model: GPT, tokens: int, say: Callable[[str], None]) -> str:
        engine = Engine(model, base.tokenizer, threads=1)
        tell_why_not(engine, say)
        return engine.samples(tokens=tokens, seed=seed)[0]

    return sample


def _teacher(name: str, base: Base, row: int, hardware: Hardware) -> tuple[str, GPT, dict[str, str]]:
    """The teacher's name and model, and what identifies it.

    Raises:
        InputError: there is no such run, it has another tokenizer than the student, or it cannot read whole rows.
    """
    loaded = load_run(name, "best", hardware.device, lambda said: None)
    model, theirs = loaded.checkpoint.model, loaded.checkpoint.tokenizer
    if difference := _difference(theirs, base.tokenizer):
        raise InputError(f"The teacher {loaded.name} has another tokenizer than {base.run.name}: {difference}.")
    if model.config.context < row:
        raise InputError(
            f"The teacher {loaded.name} reads {model.config.context:,} tokens at most, not rows of {row:,}."
        )
    content = "".join(map(sha256_of, loaded.files))
    facts = {"teacher": str(loaded.folder), "teacher_sha256": hashlib.sha256(content.encode()).hexdigest()}
    return loaded.name, model, facts


def _difference(teacher: Tokenizer, student: Tokenizer) -> str:
    """The first id that stands for something else, in words; "" if there is none."""
    for i, pair in enumerate(zip_longest(_named(teacher), _named(student))):
        if pair[0] != pair[1]:
            one, other = ("nothing" if piece is None else repr(piece) for piece in pair)
            hint = (
                "; a teacher of conversations must be finetuned first" if pair[0] is None and student.template else ""
            )
            return f"id {i} is {one} and not {other}{hint}"
    return ""


def _named(tokenizer: Tokenizer) -> list[str | bytes]:
    """What each id stands for: its bytes, or the name of a special token."""
    names = {i: name for name, i in tokenizer.special.items()}
    return [names.get(i, piece) for i, piece in enumerate(tokenizer.pieces)]
