"""The stages that learn from pairs of answers: a reward model, and direct preference optimization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base
from quoth.recipes.recipe import Recipe
from quoth.recipes.stage import Judgement, Stage
from quoth.recipes.tuning_data import Split
from quoth.system.device import Hardware
from quoth.system.words import count
from quoth.system.world import World
from quoth.train.evaluate import Interrupted
from quoth.train.preferences import answer_log_probs, bradley_terry, dpo, scores
from quoth.tune.pairs import Agreement, Pair, PairBatches, agreement, pair_batch, reference_log_probs
from quoth.tune.score import scorer_of

# How many pairs are scored at once.
SCORED = 32


def reward_stage(recipe: Recipe, base: Base, data: Split[Pair], hardware: Hardware, world: World) -> Stage:
    """The stage in which a copy of the model learns to score answers as people prefer them (Bradley and Terry 1952).

    Its loss is the mean of −log σ(score of the preferred answer − score of the other), over held-out pairs.
    """
    run = recipe.run
    shape = _shape(recipe)
    batches = PairBatches(data.training, **shape, world=world, device=hardware.device)

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            found = agreement(_each(lambda batch: scores(model, batch), model, data.held_out, go_on), data.held_out)
        return Judgement(found.loss, _metrics(found))

    def sample(model: GPT, tokens: int, say: Callable[[str], None]) -> str:
        shown = data.held_out[:3]
        with hardware.autocast():
            score_N2 = _each(lambda batch: scores(model, batch), model, shown, lambda: True)
        return "\n".join(_compared(base, pair, row) for pair, row in zip(shown, score_N2.tolist(), strict=True))

    return Stage(
        batches,
        bradley_terry,
        judge,
        sample,
        lambda: batches[0][0],
        tokens_per_step=batches.tokens_per_step,
        tokenizer=base.tokenizer,
        data=data.name,
        about=_about(data),
        facts={**base.facts, **data.facts},
        per_step=f"{run.batch * run.accumulate} pairs of answers",
        loss_is="nats per pair, over the held-out pairs",
        try_it="quoth tune ppo RUN PROMPTS --reward {}",
        model=scorer_of(base.model),
    )


def dpo_stage(recipe: Recipe, base: Base, data: Split[Pair], hardware: Hardware, world: World) -> Stage:
    """The stage in which the model itself learns from pairs, held to what it was (Rafailov et al. 2023)."""
    run, tune = recipe.run, recipe.tune
    assert tune
    model = base.model.to(hardware.device)
    with hardware.autocast():
        before = reference_log_probs(model, data.training)
        held_before = reference_log_probs(model, data.held_out)
    shape = _shape(recipe)
    batches = PairBatches(data.training, **shape, reference_N2=before.cpu(), world=world, device=hardware.device)
    answering = Answering(recipe, base, data.prompts, hardware)

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            after = _each(lambda batch: answer_log_probs(model, batch), model, data.held_out, go_on)
        found = agreement(tune.beta * (after - held_before.cpu()), data.held_out)
        return Judgement(found.loss, {"accuracy": found.accuracy, **answering.metrics(model)})

    return Stage(
        batches,
        dpo(tune.beta, tune.loss),
        judge,
        answering.sample,
        lambda: batches[0][0],
        tokens_per_step=batches.tokens_per_step,
        tokenizer=base.tokenizer,
        data=data.name,
        about=_about(data),
        facts={**base.facts, **data.facts},
        per_step=f"{run.batch * run.accumulate} pairs of answers",
        loss_is="nats per pair, over the held-out pairs",
        try_it="quoth chat {}",
        model=model,
    )


def _shape(recipe: Recipe) -> dict[str, Any]:
    run = recipe.run
    return {"batch": run.batch, "accumulate": run.accumulate, "context": recipe.model.context, "seed": run.seed}


def _each(measure: Callable[..., Tensor], model: GPT, pairs: Sequence[Pair], go_on: Callable[[], bool]) -> Tensor:
    """What `measure` says of each pair's answers, (N, 2), on the CPU."""
    model.eval()
    device, parts = next(model.parameters()).device, []
    with torch.no_grad():
        for at in range(0, len(pairs), SCORED):
            if not go_on():
                raise Interrupted
            parts.append(measure(pair_batch(pairs[at : at + SCORED]).to(device)).float().cpu().view(-1, 2))
    return torch.cat(parts)


def _metrics(found: Agreement) -> dict[str, float]:
    names = ("accuracy", "accuracy_like_length", "longer_preferred", "calibration_error")
    return {name: value for name in names if (value := getattr(found, name)) is not None}


def _about(data: Split[Pair]) -> str:
    return (
        f"{data.name}: {count(len(data.training))} pairs of answers for training, {count(len(data.held_out))} held out"
    )


def _compared(base: Base, pair: Pair, score: Sequence[float]) -> str:
    better, other = map(base.text_of, (pair.chosen, pair.rejected))
    return f"{base.text_of(pair.prompt)}\n  {score[0]:+.2f}  {better}\n  {score[1]:+.2f}  {other}"
