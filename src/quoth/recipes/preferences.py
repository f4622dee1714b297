"""The stages that learn from answers that people judged: a reward model, and DPO and KTO, which need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base
from quoth.recipes.judging import Judging
from quoth.recipes.recipe import Recipe
from quoth.recipes.stage import Judgement, Stage
from quoth.recipes.tuning_data import Split
from quoth.system.device import Hardware
from quoth.system.words import count
from quoth.system.world import World
from quoth.train.objectives import Objective
from quoth.train.preferences import answer_log_probs, bradley_terry, dpo, kto, scores
from quoth.tune.answer_batches import AnswerBatches
from quoth.tune.pairs import Agreement, Pair, PairBatches, agreement, each_answer
from quoth.tune.ratings import HeldRatings, RatedBatches, Rating
from quoth.tune.score import scorer_of

PER_PAIR = "nats per pair, over the held-out pairs"


def reward_judging(recipe: Recipe, base: Base, data: Split[Pair], hardware: Hardware, world: World) -> Judging:
    """How well a reward model agrees with what people preferred, over held-out pairs."""

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            found = agreement(each_answer(scores, model, data.held_out, go_on), data.held_out)
        return Judgement(found.loss, _metrics(found))

    return Judging(judge, PER_PAIR)


def reward_stage(recipe: Recipe, base: Base, data: Split[Pair], hardware: Hardware, world: World) -> Stage:
    """The stage in which a copy of the model learns to score answers as people prefer them (Bradley and Terry 1952).

    Its loss is the mean of −log σ(score of the preferred answer − score of the other), over held-out pairs.
    """

    def sample(model: GPT, tokens: int, say: Callable[[str], None]) -> str:
        shown = data.held_out[:3]
        with hardware.autocast():
            score_N2 = each_answer(scores, model, shown)
        return "\n".join(_compared(base, pair, row) for pair, row in zip(shown, score_N2.tolist(), strict=True))

    batches = PairBatches(data.training, **_how(recipe, hardware, world))
    judging = reward_judging(recipe, base, data, hardware, world)
    made = _stage(recipe, base, data, batches, bradley_terry, judging, sample, _pairs(data))
    return replace(made, model=scorer_of(base.model), try_it="quoth tune ppo RUN PROMPTS --reward {}")


def dpo_judging(
    recipe: Recipe,
    base: Base,
    data: Split[Pair],
    hardware: Hardware,
    world: World,
    answering: Answering | None = None,
) -> Judging:
    """How well the rewards that DPO implies agree with what people preferred, and how the model answers.

    The reference is the base's model as it is now. `answering` is made if it is not given.
    """
    assert recipe.tune
    beta, asked = recipe.tune.beta, answering or Answering(recipe, base, data.prompts, hardware)
    with hardware.autocast():
        before_N2 = each_answer(answer_log_probs, base.model.to(hardware.device), data.held_out)

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            after_N2 = each_answer(answer_log_probs, model, data.held_out, go_on)
        found = agreement(beta * (after_N2 - before_N2), data.held_out)
        return Judgement(found.loss, {"accuracy": found.accuracy, **asked.metrics(model)})

    return Judging(judge, PER_PAIR)


def dpo_stage(recipe: Recipe, base: Base, data: Split[Pair], hardware: Hardware, world: World) -> Stage:
    """The stage in which the model itself learns from pairs, held to what it was (Rafailov et al. 2023)."""
    tune = recipe.tune
    assert tune
    model = base.model.to(hardware.device)
    with hardware.autocast():
        before_N2 = each_answer(answer_log_probs, model, data.training)
    answering = Answering(recipe, base, data.prompts, hardware)
    judging = dpo_judging(recipe, base, data, hardware, world, answering)
    batches = PairBatches(data.training, reference_N2=before_N2, **_how(recipe, hardware, world))
    made = _stage(
        recipe,
        base,
        data,
        batches,
        dpo(tune.beta, tune.loss, chosen=tune.chosen_weight),
        judging,
        answering.sample,
        _pairs(data),
    )
    return replace(made, model=model, try_it="quoth chat {}")


def kto_judging(
    recipe: Recipe,
    base: Base,
    data: Split[Rating],
    hardware: Hardware,
    world: World,
    answering: Answering | None = None,
) -> Judging:
    """How well the rewards that KTO implies agree with the ratings of held-out answers, and how the model answers.

    The reference is the base's model as it is now. `answering` is made if it is not given.
    """
    tune, asked = recipe.tune, answering or Answering(recipe, base, data.prompts, hardware)
    assert tune
    with hardware.autocast():
        held = HeldRatings(data.held_out, data.training, base.model.to(hardware.device))

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            found = held.judge(model, tune.beta, tune.desirable_weight, tune.undesirable_weight, go_on)
        return Judgement(found.pop("loss"), {**found, **asked.metrics(model)})

    return Judging(judge, "KTO's loss per answer, over the held-out answers")


def kto_stage(recipe: Recipe, base: Base, data: Split[Rating], hardware: Hardware, world: World) -> Stage:
    """The stage in which the model learns from answers that are good or bad, held to what it was (Ethayarajh 2024)."""
    tune = recipe.tune
    assert tune
    model = base.model.to(hardware.device)
    with hardware.autocast():
        batches = RatedBatches(data.training, model, **_how(recipe, hardware, world))
    answering = Answering(recipe, base, data.prompts, hardware)
    judging = kto_judging(recipe, base, data, hardware, world, answering)
    objective = kto(tune.beta, tune.desirable_weight, tune.undesirable_weight)
    good = sum(one.good for one in data.training)
    counts = f"{count(good)} good and {count(len(data.training) - good)} bad"
    words = Words(f"{counts} answers for training", "answers")
    made = _stage(recipe, base, data, batches, objective, judging, answering.sample, words)
    return replace(made, model=model, try_it="quoth chat {}")


def _how(recipe: Recipe, hardware: Hardware, world: World) -> dict[str, Any]:
    """The shape of the batches and where they are computed, as keyword arguments."""
    run = recipe.run
    shape = {"batch": run.batch, "accumulate": run.accumulate, "context": recipe.model.context, "seed": run.seed}
    return {**shape, "world": world, "device": hardware.device}


@dataclass(frozen=True)
class Words:
    """What a stage says of its training data, and what a step learns from."""

    training: str
    each: str


def _pairs(data: Split[Pair]) -> Words:
    return Words(f"{count(len(data.training))} pairs of answers for training", "pairs of answers")


def _stage(
    recipe: Recipe,
    base: Base,
    data: Split[Any],
    batches: AnswerBatches,
    objective: Objective,
    judging: Judging,
    sample: Callable[[GPT, int, Callable[[str], None]], str],
    words: Words,
) -> Stage:
    """What all these stages have in common."""
    return Stage(
        batches,
        objective,
        judging.judge,
        sample,
        lambda: batches[0][0],
        tokens_per_step=batches.tokens_per_step,
        tokenizer=base.tokenizer,
        data=data.name,
        about=f"{data.name}: {words.training}, {count(len(data.held_out))} held out",
        facts={**base.facts, **data.facts},
        per_step=f"{recipe.run.batch * recipe.run.accumulate} {words.each}",
        loss_is=judging.loss_is,
    )


def _metrics(found: Agreement) -> dict[str, float]:
    names = ("accuracy", "accuracy_like_length", "longer_preferred", "calibration_error")
    return {name: value for name in names if (value := getattr(found, name)) is not None}


def _compared(base: Base, pair: Pair, score: Sequence[float]) -> str:
    better, other = map(base.text_of, (pair.chosen, pair.rejected))
    return f"{base.text_of(pair.prompt)}\n  {score[0]:+.2f}  {better}\n  {score[1]:+.2f}  {other}"
