"""How often a run's answers are better than another run's, as a reward says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quoth.recipes.base import Base
from quoth.recipes.load_engine import tell_why_not
from quoth.recipes.load_run import load_run
from quoth.recipes.rewards import Judges, accuracy_of, open_rewards
from quoth.recipes.tune_config import TuneConfig
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.text.chat import Template
from quoth.text.special import for_chat
from quoth.tune.adapt import resized
from quoth.tune.answers import Answer, Prompt, answered, answering_engine, write_answers
from quoth.tune.conversation import Messages
from quoth.tune.wilson import wilson

# How many prompts are answered at once, and how many answers are scored at once.
SLOTS, SCORED = 32, 64


@dataclass(frozen=True)
class WinRate:
    """How a run's answers compare with another run's, each prompt answered once by both.

    Attributes:
        wins: how many of its answers have the higher reward; a tie counts as half.
        ties: how many pairs have the same reward.
        total: the number of pairs.
        left_out: the number of prompts that leave no room for an answer, or one of whose answers has no reward.
        reward: the mean reward of its answers.
        other_reward: the mean reward of the other run's.
    """

    wins: float
    ties: int
    total: int
    left_out: int
    reward: float
    other_reward: float

    @property
    def share(self) -> float:
        """The share of wins."""
        return self.wins / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share of wins."""
        return wilson(self.wins, self.total)


def open_answering(name: str, which: str, hardware: Hardware, say: Callable[[str], None]) -> tuple[str, Base]:
    """The name of a run, or of RUN+ADAPTER, and the run, ready to answer; one without a chat template gets quoth's.

    Raises:
        InputError: there is no such run, or none of its checkpoints is intact.
    """
    loaded = load_run(name, which, hardware.device, say)
    model, tokenizer = loaded.checkpoint.model, for_chat(loaded.checkpoint.tokenizer)
    if tokenizer.vocabulary > model.config.vocabulary:
        model = resized(model, tokenizer.vocabulary).eval()
    assert tokenizer.template
    made = Base(loaded.folder, loaded.checkpoint.folder, model, tokenizer, Template(tokenizer.template))
    return loaded.name, made


def win_rate(
    run: Base,
    other: Base,
    asked: Sequence[Messages],
    reward: str,
    hardware: Hardware,
    say: Callable[[str], None],
    *,
    tokens: int,
    seed: int,
) -> WinRate:
    """Let two runs answer the same prompts, and count how often the first run's answer has the higher reward.

    Both draw from the same random numbers, so equal models tie.

    Args:
        asked: the messages before each answer; what stands there twice is asked once.
        reward: a reward model's run, or rules and functions of a file, as for `quoth tune`.
        tokens: the most tokens of an answer.

    Raises:
        InputError: there is no such reward, it is a reward model for another tokenizer, or no prompt can be used.
    """
    asked = list({repr(messages): messages for messages in asked}.values())
    sides = [[side.prompt(messages) for messages in asked] for side in (run, other)]
    room = min(run.model.config.context, other.model.config.context) - tokens
    fit = [n for n in range(len(asked)) if all(len(prompts[n].ids) <= room for prompts in sides)]
    if not fit:
        raise InputError(
            f"None of {len(asked):,} prompts leaves room for an answer of {tokens:,} tokens in a context of "
            f"{room + tokens:,} tokens; give fewer --answer-tokens."
        )
    prompts, theirs = ([side[n] for n in fit] for side in sides)
    # This measures and teaches nothing, so that a reward model that is often wrong is only told of.
    config = TuneConfig(stage="grpo", reward=reward, answer_tokens=tokens, anyway=True)
    judges = open_rewards(config, run, prompts, hardware, seed=seed)
    if judges.scorer and other.tokenizer.dump() != run.tokenizer.dump():
        raise InputError(f"{other.run.name} has another tokenizer than {run.run.name} and the reward model {reward}.")
    if judges.scorer and (accuracy := accuracy_of(reward)) is not None:
        say(f"The reward model {reward} is right about {accuracy:.0%} of held-out pairs.")
    one_N, other_N = (
        _rewards(judges, of, side, _answers(of, side, hardware, say, tokens, seed), hardware)
        for of, side in ((run, prompts), (other, theirs))
    )
    known_N = ~(one_N.isnan() | other_N.isnan())
    if not known_N.any():
        raise InputError(f"The reward {reward} says nothing of any answer.")
    one_N, other_N = one_N[known_N], other_N[known_N]
    ties = int((one_N == other_N).sum())
    return WinRate(
        wins=int((one_N > other_N).sum()) + ties / 2,
        ties=ties,
        total=len(one_N),
        left_out=len(asked) - len(one_N),
        reward=one_N.mean().item(),
        other_reward=other_N.mean().item(),
    )


def _answers(
    of: Base, prompts: Sequence[Prompt], hardware: Hardware, say: Callable[[str], None], tokens: int, seed: int
) -> list[Answer]:
    ids = [one.ids for one in prompts]
    longest = max(map(len, ids)) + tokens
    engine = answering_engine(of.model, of.tokenizer, longest, slots=SLOTS, threads=hardware.threads, compiled=True)
    tell_why_not(engine, say)
    return write_answers(engine, ids, tokens=tokens, ends=of.tokenizer.ends, seed=seed)


def _rewards(
    judges: Judges, of: Base, prompts: Sequence[Prompt], answers: Sequence[Answer], hardware: Hardware
) -> Tensor:
    """The reward of each answer: (N,), in float64; NaN for one of which the reward says nothing."""
    device, parts = next(of.model.parameters()).device, []
    for at in range(0, len(prompts), SCORED):
        asked, said = prompts[at : at + SCORED], answers[at : at + SCORED]
        batch = answered(asked, said).to(device)
        with torch.no_grad(), hardware.autocast():
            parts.append(judges.reward(asked, said, batch).cpu().double())
    return torch.cat(parts)
