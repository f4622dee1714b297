"""What scores the answers that a model writes while it learns from rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quoth.model.gpt import GPT
from quoth.recipes.answering import Answering
from quoth.recipes.base import Base
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.warm_start import init_checkpoint
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.files import read_json, sha256_of
from quoth.text.batches import Batch
from quoth.train.manifest import MANIFEST
from quoth.train.preferences import scores
from quoth.train.run import find_run
from quoth.tune.answers import Answer, Prompt, answered, answering_engine, write_answers
from quoth.tune.judge import rewards_from
from quoth.tune.rollouts import SLOTS, Reward, measure
from quoth.tune.score import Scorer, load_scorer

# A reward model that is right less often than this teaches a policy its mistakes: one at 0.69 taught empty answers.
LEAST_ACCURACY = 0.75
# How many answers of the model before tuning set the zero and the unit of a reward model's scores.
NORMED_BY = 128


@dataclass(frozen=True)
class Judged:
    """Means over answers to held-out prompts."""

    reward: float
    kl: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Judges:
    """What scores answers: the reward that is learned from, and one that is only recorded.

    Attributes:
        scorer: the reward model, if the reward is one.
        unit: how far the reward model's scores lie apart before tuning, which is worth about 1 with any of them.
        facts: what identifies them.
    """

    reward: Reward
    true_reward: Reward | None
    scorer: Scorer | None
    facts: Mapping[str, Any]
    unit: float = 1.0

    def judge(self, policy: GPT, reference: GPT, answering: Answering, hardware: Hardware) -> Judged:
        """Let the policy answer held-out prompts, and score its answers."""
        answers = answering.answers(policy)
        batch = answered(answering.prompts, answers)
        batch = batch.to(next(policy.parameters()).device)
        with torch.no_grad(), hardware.autocast():
            seen = measure(policy, reference, batch)
            reward_B = self.reward(answering.prompts, answers, batch)
            true_B = self.true_reward(answering.prompts, answers, batch) if self.true_reward else None
        assert batch.weight_BT is not None
        kl = (seen.kl_BT * batch.weight_BT).sum(1).mean().item()
        reward = reward_B.nanmean().nan_to_num(0.0).item()
        metrics = {"held_out_reward": reward, "held_out_kl": kl, **answering.shares(answers)}
        if true_B is not None:
            metrics["held_out_true_reward"] = true_B.nanmean().item()
        return Judged(reward, kl, metrics)


def open_rewards(tune: TuneConfig, base: Base, prompts: Sequence[Prompt], hardware: Hardware, *, seed: int) -> Judges:
    """The rewards that the settings name.

    Raises:
        InputError: there is no such reward, or it is a reward model that is too often wrong.
    """
    true = _functions(tune.true_reward) if tune.true_reward else None
    if _is_rule(tune.reward):
        return Judges(_functions(tune.reward), true, None, {"reward": tune.reward})
    run = find_run(tune.reward)
    folder = init_checkpoint(run)
    known = load_scorer(folder)
    assert isinstance(known.model, Scorer)
    if known.tokenizer.dump() != base.tokenizer.dump():
        raise InputError(f"The reward model {run.name} has another tokenizer than {base.run.name}.")
    if not tune.anyway:
        _check_accuracy(run)
    scorer = known.model.to(hardware.device).eval().requires_grad_(False)
    batch = _before(tune, base, prompts, hardware, seed)
    with torch.no_grad(), hardware.autocast():
        score_B = scores(scorer, batch)
    preferred = preference_over(score_B)

    def reward(prompts: Sequence[Prompt], answers: Sequence[Answer], batch: Batch) -> Tensor:
        return preferred(scores(scorer, batch))

    facts = {"reward": str(folder), "reward_sha256": sha256_of(folder / MANIFEST)}
    return Judges(reward, true, scorer, facts, score_B.std().clamp_min(1e-6).item())


def preference_over(before_B: Tensor) -> Callable[[Tensor], Tensor]:
    """Rewards from a reward model's scores: how likely an answer is to be preferred to a good one of before tuning.

    It is log σ(score − good) as in Bradley and Terry's model, moved and stretched so that a good answer is worth 1 and
    a mean one 0. Good is one deviation above the mean of `before_B`, the scores of answers before tuning. An answer is
    never worth much more than a good one, so there is little to gain where a reward model has seen nothing and is often
    wrong (Wang et al. 2024, arXiv:2402.00742, "Transforming and combining rewards for aligning large language models").

    >>> preference_over(torch.tensor([-1.0, 0.0, 1.0]))(torch.tensor([-1.0, 0.0, 1.0, 9.0]))
    tensor([-1.3115,  0.0000,  1.0000,  2.1173])
    """
    mean, deviation = before_B.mean(), before_B.std().clamp_min(1e-3)
    worth_of_mean = F.logsigmoid(-deviation)
    unit = F.logsigmoid(torch.zeros_like(mean)) - worth_of_mean
    return lambda score_B: (F.logsigmoid(score_B - mean - deviation) - worth_of_mean) / unit


def _is_rule(reward: str) -> bool:
    """Whether a reward is a rule or a function, and not a run's folder or name."""
    try:
        find_run(reward)
    except InputError:
        return True
    return False


def _functions(named: str) -> Reward:
    rewards = rewards_from(named)

    def reward(prompts: Sequence[Prompt], answers: Sequence[Answer], batch: Batch) -> Tensor:
        asked, said = [prompt.text for prompt in prompts], [answer.text for answer in answers]
        return torch.tensor(rewards(asked, said, [answer.ended for answer in answers]))

    return reward


def _before(tune: TuneConfig, base: Base, prompts: Sequence[Prompt], hardware: Hardware, seed: int) -> Batch:
    """Answers of the model before tuning."""
    asked = [prompts[n % len(prompts)] for n in range(NORMED_BY)]
    ids, ends = [prompt.ids for prompt in asked], base.tokenizer.ends
    longest = max(map(len, ids)) + tune.answer_tokens
    engine = answering_engine(base.model, base.tokenizer, longest, slots=SLOTS, threads=hardware.threads, compiled=True)
    answers = write_answers(engine, ids, tokens=tune.answer_tokens, ends=ends, seed=seed)
    batch = answered(asked, answers)
    return batch.to(next(base.model.parameters()).device)


def accuracy_of(run: str | Path) -> float | None:
    """The share of held-out pairs that a reward model was right about when its run ended; None if it did not say."""
    path = find_run(str(run)) / "summary.json"
    accuracy = read_json(path).get("accuracy") if path.exists() else None
    return accuracy if isinstance(accuracy, float) else None


def _check_accuracy(run: Path) -> None:
    """Refuse a reward model that is too often wrong about held-out pairs.

    Raises:
        InputError: it is.
    """
    accuracy = accuracy_of(run)
    if accuracy is not None and accuracy < LEAST_ACCURACY:
        raise InputError(
            f"The reward model {run.name} is right about {accuracy:.0%} of held-out pairs; below {LEAST_ACCURACY:.0%} "
            "a model learns its mistakes. Give it more pairs, or take it all the same with --anyway true."
        )
