"""Answers that the model writes and then learns from: the batch source of learning from rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from quoth.model.gpt import GPT
from quoth.system.world import World
from quoth.text.batches import Batch
from quoth.text.tokenizer import Tokenizer
from quoth.train.advantages import (
    explained_variance,
    gae,
    grpo_advantages,
    rloo_advantages,
    standardized,
    token_rewards,
)
from quoth.train.divergence import entropy, kl_per_place
from quoth.train.objectives import counted, inputs, loss_of
from quoth.tune.answers import (
    Answer,
    Prompt,
    answered,
    answering_engine,
    in_turn,
    share_distinct,
    share_ended,
    write_answers,
)
from quoth.tune.parts import in_parts

SLOTS = 64


class Reward(Protocol):
    """Scores answers; NaN for one that cannot be scored. `batch` has their tokens, padded, the prompts' first."""

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[Answer], batch: Batch) -> Tensor: ...


@dataclass(frozen=True)
class RolloutConfig:
    """How answers are written and turned into batches; see `TuneConfig` for the fields."""

    kind: str
    answers: int
    group: int
    passes: int
    minibatches: int
    tokens: int
    temperature: float
    beta: float
    gae_lambda: float
    unfinished: float
    seed: int

    @property
    def period(self) -> int:
        """The steps from one writing of answers to the next."""
        return self.passes * self.minibatches


@dataclass(frozen=True)
class Told:
    """What came of one writing of answers: means over them."""

    iteration: int
    reward: float
    true_reward: float | None
    kl: float
    entropy: float
    length: float
    ended: float
    distinct: float
    equal_groups: float | None
    unscored: float
    explained_variance: float | None

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers by name, as they are logged."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}


@dataclass(frozen=True)
class Measured:
    """Of each target that counts its log-probabilities under policy and reference, and the KL and the entropy there.

    What stands elsewhere is 0.
    """

    policy_BT: Tensor
    reference_BT: Tensor
    kl_BT: Tensor
    entropy_BT: Tensor


def measure(policy: GPT, reference: GPT, batch: Batch) -> Measured:
    """The log-probabilities of a batch's targets that count, a few rows at a time.

    The KL divergence of the policy from the reference is exact at each place: the mean over the whole vocabulary, not
    an estimate from the token that was drawn.
    """
    policy.eval()
    reference.eval()
    seen = Measured(*(torch.zeros(batch.x_BT.shape, device=batch.x_BT.device) for _ in fields(Measured)))
    for part in in_parts(batch, policy.config.vocabulary):
        given = inputs(part.batch)
        logits = policy(*given), reference(*given)
        drawn = (-loss_of(logit_BTV, part.batch.y_BT) for logit_BTV in logits)
        found = (*drawn, kl_per_place(*logits), entropy(logits[0]))
        for value_BT, into_BT in zip(found, vars(seen).values(), strict=True):
            part.put(value_BT, into_BT)
    return seen


class Rollouts:
    """Batches of answers that the policy itself has written, with their advantages.

    At each step whose number is a multiple of the period the policy writes answers anew, with the weights that it has
    then; so answers are never older than the passes over them, in which the clipped ratio corrects for the difference.
    Batches are a function of the seed, the step, and the weights at the period's beginning.

    Args:
        policy: the model that learns.
        reference: the model before tuning, which stays as it is.
        prompts: the prompts of an iteration, one for each group of answers.
        reward: scores the answers.
        longest: how many tokens a prompt and its answer have together, at most.
        true_reward: scores them too, for the record only.
        critic: predicts the score that an answer will get, at each of its tokens; PPO's.
        autocast: the number type of training, in which log-probabilities are measured, so that ratios begin at 1.
    """

    def __init__(
        self,
        c: RolloutConfig,
        policy: GPT,
        reference: GPT,
        tokenizer: Tokenizer,
        prompts: Callable[[int], Sequence[Prompt]],
        reward: Reward,
        *,
        longest: int,
        true_reward: Reward | None = None,
        critic: nn.Module | None = None,
        threads: int = 0,
        autocast: Callable[[], AbstractContextManager[object]],
        world: World | None = None,
    ) -> None:
        self.c, self.policy, self.reference, self.critic = c, policy, reference, critic
        self.tokenizer, self.prompts, self.reward, self.true_reward = tokenizer, prompts, reward, true_reward
        self.autocast, self.world = autocast, world or World()
        self.engine = answering_engine(
            policy, tokenizer, longest, slots=min(SLOTS, c.answers), threads=threads, compiled=True
        )
        self.told: Told | None = None
        self._iteration, self._batches = -1, list[list[Batch]]()
        self._equal: float | None = None
        self._explained: float | None = None

    def __getitem__(self, step: int) -> list[Batch]:
        iteration, at = divmod(step, self.c.period)
        if iteration != self._iteration:
            self._iteration, self._batches = iteration, self._written(iteration)
        return self._batches[at]

    def _written(self, iteration: int) -> list[list[Batch]]:
        """The microbatches of each step of one period."""
        c = self.c
        asked = [prompt for prompt in self.prompts(iteration) for _ in range(c.group)]
        mine = list(in_turn(len(asked) // c.group, self.world.size))[self.world.rank]
        first = mine.start * c.group
        asked = asked[first : mine.stop * c.group]
        self.engine.reload(self.policy)
        answers = write_answers(
            self.engine,
            [prompt.ids for prompt in asked],
            tokens=c.tokens,
            ends=self.tokenizer.ends,
            temperature=c.temperature,
            seed=c.seed + iteration,
            first=first,
        )
        device = next(self.policy.parameters()).device
        batch = answered(asked, answers).to(device)
        with torch.no_grad(), self.autocast():
            seen = measure(self.policy, self.reference, batch)
            score_B = self.reward(asked, answers, batch).to(device, torch.float32)
            batch = self._with_advantages(batch, seen, self._scores(score_B, answers))
        self.told = self._tell(iteration, asked, answers, batch, seen, score_B)
        return self._minibatches(iteration, batch)

    def _scores(self, score_B: Tensor, answers: Sequence[Answer]) -> Tensor:
        """The scores, but for answers that were cut off, which never get more than `unfinished`."""
        ended_B = torch.tensor([one.ended for one in answers], device=score_B.device)
        return torch.where(ended_B, score_B, score_B.clamp(max=self.c.unfinished))

    def _with_advantages(self, batch: Batch, seen: Measured, score_B: Tensor) -> Batch:
        """The batch with what its objective needs: log-probabilities, advantages, and for PPO values and returns.

        An answer without a score counts in nothing.
        """
        c, mask_BT, known_B = self.c, counted(batch), score_B.isfinite()
        more = {"old_BT": seen.policy_BT, "reference_BT": seen.reference_BT}
        reward_BT = token_rewards(score_B, seen.policy_BT, seen.reference_BT, mask_BT, c.beta)
        if self.critic:
            mask_BT = mask_BT & known_B[:, None]
            value_BT = self.critic(batch.x_BT)[..., 0].float()
            advantage_BT = gae(reward_BT, value_BT, mask_BT, lam=c.gae_lambda)
            more |= {"value_BT": value_BT, "return_BT": advantage_BT + value_BT}
            more["advantage_BT"] = standardized(advantage_BT, mask_BT, self.world)
            self._explained = explained_variance(value_BT, more["return_BT"], mask_BT)
        else:
            # RLOO's rewards hold the KL to the reference; GRPO's objective holds it.
            rloo = c.kind == "rloo"
            compared = rloo_advantages(reward_BT.sum(1), c.group) if rloo else grpo_advantages(score_B, c.group)
            self._equal, mask_BT = compared.equal, mask_BT & compared.known_B[:, None]
            more["advantage_BT"] = compared.advantage_B[:, None].expand_as(reward_BT)
        return replace(batch, weight_BT=mask_BT.float(), more=more)

    def _minibatches(self, iteration: int, batch: Batch) -> list[list[Batch]]:
        steps, vocabulary = [], self.policy.config.vocabulary
        for number in range(self.c.passes):
            seed = torch.Generator().manual_seed((self.c.seed + iteration) * self.c.passes + number)
            order = torch.randperm(len(batch.x_BT), generator=seed)
            for some in in_turn(len(order), self.c.minibatches):
                parts = in_parts(batch.rows(order[some].to(batch.x_BT.device)), vocabulary)
                steps.append([part.batch for part in parts])
        return steps

    def _tell(
        self,
        iteration: int,
        asked: Sequence[Prompt],
        answers: Sequence[Answer],
        batch: Batch,
        seen: Measured,
        score_B: Tensor,
    ) -> Told:
        counts_BT = counted(batch)
        lengths_B = counts_BT.sum(1).clamp_min(1)
        true_B = self.true_reward(asked, answers, batch) if self.true_reward else None

        def mean(values: Tensor) -> float:
            """The mean of the values that are known, over all processes."""
            known = values.isfinite()
            return (self.world.sum(values[known].double().sum()) / self.world.sum(known.double().sum())).item()

        return Told(
            iteration=iteration,
            reward=mean(score_B),
            true_reward=None if true_B is None else mean(true_B),
            kl=mean((seen.kl_BT * counts_BT).sum(1)),
            entropy=mean((seen.entropy_BT * counts_BT).sum(1) / lengths_B),
            length=mean(lengths_B.float()),
            ended=share_ended(answers),
            distinct=share_distinct(answers),
            equal_groups=self._equal,
            unscored=(~score_B.isfinite()).float().mean().item(),
            explained_variance=self._explained,
        )
