"""The stages that learn from rewards: PPO with a critic, GRPO and RLOO without one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields
from math import nan

import numpy as np
import torch

from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base, frozen
from quoth.recipes.recipe import Recipe
from quoth.recipes.rewards import Judges, open_rewards
from quoth.recipes.stage import Judgement, Stage, Watch
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.tuning_data import Split
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.words import count
from quoth.system.world import World
from quoth.text.batches import Batch, shuffled_places
from quoth.train.objectives import Objective
from quoth.train.policy import ActorCritic, grpo, ppo, rloo
from quoth.tune.answers import Prompt
from quoth.tune.health import Iteration, warnings
from quoth.tune.rollouts import RolloutConfig, Rollouts, Told
from quoth.tune.score import Scorer, scorer_of


def reinforcement(recipe: Recipe, base: Base, data: Split[Prompt], hardware: Hardware, world: World) -> Stage:
    """The stage in which a model learns from the rewards of the answers that it writes.

    The loss by which checkpoints are compared is β KL − reward, over answers to held-out prompts: what is learned is to
    make it small. GRPO divides rewards by their deviation within a group, so that its β is no price of a nat in the
    unit of the rewards: its checkpoints are compared by the reward alone.
    """
    run, tune = recipe.run, recipe.tune
    assert tune
    longest = _longest(base, [*data.training, *data.held_out], tune.answer_tokens)
    policy = base.model.to(hardware.device)
    reference = frozen(policy, hardware)
    judges = open_rewards(tune, base, data.training, hardware, seed=run.seed)
    critic = _critic(judges, policy) if tune.stage == "ppo" else None
    rollouts = Rollouts(
        rollout_config(tune, run.seed),
        policy,
        reference,
        base.tokenizer,
        _in_turn(data.training, tune, run.seed),
        judges.reward,
        longest=longest,
        true_reward=judges.true_reward,
        critic=critic,
        threads=hardware.threads,
        autocast=hardware.autocast,
        world=world,
    )
    answering = Answering(recipe, base, data.held_out, hardware, engine=rollouts.engine)
    past: list[Iteration] = []
    each, price = tune.answers // tune.minibatches, 0.0 if tune.stage == "grpo" else tune.beta

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        found = judges.judge(model, reference, answering, hardware)
        return Judgement(price * found.kl - found.reward, found.metrics)

    def watch() -> Watch:
        if (told := rollouts.told) is None:
            return Watch()
        past.append(_iteration(told))
        return Watch(told.metrics, list(warnings(past).items()))

    return Stage(
        rollouts,
        objective_of(tune),
        judge,
        answering.sample,
        _no_example,
        tokens_per_step=tune.answers * tune.answer_tokens // tune.minibatches,
        tokenizer=base.tokenizer,
        data=data.name,
        about=f"{data.name}: {count(len(data.training))} prompts to learn from, {count(len(data.held_out))} held out",
        facts={**base.facts, **data.facts, **judges.facts},
        per_step=f"{each} answers",
        loss_is=f"({'β KL ' if price else ''}− reward) over answers to held-out prompts",
        try_it="quoth chat {}",
        model=ActorCritic(policy, critic) if critic else policy,
        period=rollouts.c.period,
        watch=watch,
    )


def _longest(base: Base, prompts: Sequence[Prompt], tokens: int) -> int:
    """How many tokens the longest prompt has together with an answer of `tokens`.

    Raises:
        InputError: they do not fit into the context.
    """
    context, longest = base.model.config.context, max(len(prompt.ids) for prompt in prompts)
    if longest + tokens > context:
        raise InputError(
            f"The longest prompt has {longest:,} tokens, so that answers of {tokens:,} do not fit into a context of "
            f"{context:,}; give --answer-tokens {max(1, context - longest)} or shorter prompts."
        )
    return longest + tokens


def rollout_config(tune: TuneConfig, seed: int) -> RolloutConfig:
    """How answers are written and compared, as the settings say."""
    return RolloutConfig(
        kind=tune.stage,
        answers=tune.answers,
        group=1 if tune.stage == "ppo" else tune.group,
        passes=tune.passes,
        minibatches=tune.minibatches,
        tokens=tune.answer_tokens,
        temperature=tune.temperature,
        beta=tune.beta,
        gae_lambda=tune.gae_lambda,
        unfinished=tune.unfinished,
        seed=seed,
    )


def objective_of(tune: TuneConfig) -> Objective:
    """The objective of a stage. PPO's and RLOO's rewards hold the KL already; GRPO's objective holds it."""
    if tune.stage == "ppo":
        return ppo(tune.clip_ratio, value=tune.value_weight, entropy=tune.entropy)
    if tune.stage == "rloo":
        return rloo(tune.clip_ratio, entropy=tune.entropy)
    return grpo(tune.clip_ratio, beta=tune.beta, entropy=tune.entropy)


def _critic(judges: Judges, policy: GPT) -> Scorer:
    """The critic begins as the reward model if that has the policy's shape, in the unit of the rewards.

    It knows answers already. In its own unit it would at first be wrong by as much as rewards differ.
    """
    scorer = judges.scorer
    fits = scorer is not None and scorer.config.replace(tied=policy.config.tied) == policy.config
    if scorer is None or not fits:
        return scorer_of(policy)
    critic = copy.deepcopy(scorer).requires_grad_(True)
    with torch.no_grad():
        critic.head.weight /= judges.unit
    return critic


def _in_turn(prompts: Sequence[Prompt], tune: TuneConfig, seed: int) -> Callable[[int], list[Prompt]]:
    """The prompts of each iteration: all in a random order, then all in another."""
    wanted = tune.answers // (1 if tune.stage == "ppo" else tune.group)

    def of(iteration: int) -> list[Prompt]:
        places = np.arange(iteration * wanted, (iteration + 1) * wanted)
        return [prompts[n] for n in shuffled_places(places, len(prompts), seed).tolist()]

    return of


def _no_example() -> Batch:
    raise InputError("Learning from rewards is not compiled: its batches have as many shapes as answers have lengths.")


def _iteration(told: Told) -> Iteration:
    known = {f.name: getattr(told, f.name, None) for f in fields(Iteration)} | {"equal": told.equal_groups}
    return Iteration(**{name: nan if value is None else value for name, value in known.items()})
