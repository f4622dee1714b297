"""Supervised finetuning, the stage in which a model learns to answer from conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base, frozen
from quoth.recipes.judging import Judging
from quoth.recipes.recipe import Recipe
from quoth.recipes.stage import Judgement, Stage
from quoth.recipes.tuning_data import Split
from quoth.system.device import Hardware
from quoth.system.errors import Interrupted
from quoth.system.words import count
from quoth.system.world import World
from quoth.text.batches import Windows
from quoth.text.corpus import Corpus
from quoth.text.packing import Example, PackedRows
from quoth.train.evaluate import evaluate
from quoth.train.finetuning import finetuning
from quoth.train.objectives import next_token

# How much of the base run's validation split tells what was forgotten.
PLAIN_TOKENS = 16_384
# Rows are as long as the longest example, within these bounds, since attention sees whole rows.
SHORTEST_ROW, LONGEST_ROW = 64, 1024


def row_length(examples: Sequence[Example], context: int) -> int:
    """The number of tokens in a row: the longest example's, rounded up to a multiple of 64."""
    longest = max(one.places for one in examples)
    return min(context, LONGEST_ROW, max(SHORTEST_ROW, -(-longest // 64) * 64))


def sft(recipe: Recipe, base: Base, data: Split[Example], hardware: Hardware, world: World) -> Stage:
    """The stage in which a model learns the assistant's turns of conversations, end tokens included.

    The loss is the mean over those tokens, with a weight for the ends. A share of each step's rows are plain text of
    the base run, on which the model is held to what it predicted before.
    """
    run, tune = recipe.run, recipe.tune
    assert tune
    training, held = data.training, data.held_out
    row = row_length([*training, *held], recipe.model.context)
    text = base.text()
    plain = round(tune.replay * run.batch * run.accumulate) if text else 0
    replay = Windows(text.train, batch=plain, context=row, seed=run.seed) if text and plain else None
    shape = {"batch": run.batch, "accumulate": run.accumulate, "context": row, "seed": run.seed}
    weighted = [one.ending(base.tokenizer.ends, tune.end_weight) for one in training]
    rows = PackedRows(weighted, **shape, noise=tune.noise, replay=replay, world=world, device=hardware.device)
    answering = _answering(recipe, base, data, hardware)
    objective = finetuning(frozen(base.model, hardware), tune.replay_weight) if replay else next_token
    judging = sft_judging(recipe, base, data, hardware, world, answering, text)
    forgotten = f"; {plain} of {run.batch * run.accumulate} rows replay {text.name}" if text and plain else ""
    about = (
        f"{data.name}: {count(len(training))} conversations for training, {count(len(held))} held out, "
        f"{count(sum(one.targets for one in training))} tokens of answers{forgotten}"
    )
    return Stage(
        rows,
        objective,
        judging.judge,
        answering.sample,
        lambda: rows[0][0],
        tokens_per_step=rows.tokens_per_step,
        tokenizer=base.tokenizer,
        data=data.name,
        about=about,
        facts={**base.facts, **data.facts},
        per_step=f"{run.batch * run.accumulate} rows of {row} tokens",
        loss_is=judging.loss_is,
        try_it="quoth chat {}",
        model=base.model,
    )


def sft_judging(
    recipe: Recipe,
    base: Base,
    data: Split[Example],
    hardware: Hardware,
    world: World,
    answering: Answering | None = None,
    text: Corpus | None = None,
) -> Judging:
    """How well a model answers held-out conversations, and continues the text that it was pretrained on.

    `answering` and `text` are made if they are not given.
    """
    answering, text = answering or _answering(recipe, base, data, hardware), text or base.text()
    row = row_length([*data.training, *data.held_out], recipe.model.context)
    judged = PackedRows(data.held_out, batch=1, context=row, seed=0, device=hardware.device)

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            loss = held_out_loss(model, judged, go_on)
            metrics: dict[str, float] = {}
            if text:
                part = text.validation[:PLAIN_TOKENS]
                found = evaluate(model, part, base.tokenizer, context=row, world=world, go_on=go_on)
                metrics["plain_text_loss"] = found.loss
        return Judgement(loss, {**metrics, **answering.metrics(model)})

    return Judging(judge, "nats per token of an answer, over the held-out conversations")


def _answering(recipe: Recipe, base: Base, data: Split[Example], hardware: Hardware) -> Answering:
    known = (answer for one in data.training for answer in one.learned)
    return Answering(recipe, base, data.prompts, hardware, known)


def held_out_loss(model: GPT, rows: PackedRows, go_on: Callable[[], bool], batch: int = 32) -> float:
    """The mean loss of all targets of packed rows, in nats.

    Raises:
        Interrupted: `go_on`, which is called before each batch, returned false.
    """
    total = 0.0
    model.eval()
    with torch.no_grad():
        for part in rows.once(batch):
            if not go_on():
                raise Interrupted
            total += next_token(model, part).item()
    return total / rows.targets
