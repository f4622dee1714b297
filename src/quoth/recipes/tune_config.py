"""The settings that only stages after pretraining have, and which stage has which of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quoth.system.errors import InputError

# The model writes so many answers at most before it learns from them.
MOST_ANSWERS = 65_536

StageName = Literal["sft", "reward", "dpo", "kto", "distill", "ppo", "grpo", "rloo"]


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How a run is tuned after pretraining. A stage uses only some of these settings.

    Attributes:
        stage: sft, reward, dpo, kto, distill, ppo, grpo or rloo.
        lora: the rank of low-rank adapters, which are trained and saved alone; 0 trains all weights.
        lora_alpha: the weight of the adapters, divided by their rank; 0 takes twice the rank.
        lora_targets: the layers that get adapters: attention, mlp or all, or names such as query,value.
        me: in exports of chats, the name of the person whose messages the model learns to write.
        epochs: how often the data is read if neither steps nor minutes are given.
        held_out: the share of the data that is held out to judge the model, all answers to a prompt together.
        end_weight: the weight of an answer's end token, of which there is one among many others.
        noise: the share of an answer's tokens that the model reads replaced by others, so that it learns to go on, and
            to end, after mistakes of its own.
        replay: the share of each step's rows that are windows of the text of the base run, on which the model is held
            to what it was.
        replay_weight: what a nat of KL at a token of those rows weighs against a nat of loss at a token of an answer.
        answer_tokens: the most tokens that an answer may have when the model writes one.
        beta: the weight of the KL divergence from the model before tuning.
        loss: the form of the loss on pairs: sigmoid (DPO's own) or ipo.
        chosen_weight: the weight of the preferred answers' own loss per token, which keeps them and their end likely.
        desirable_weight: the weight of good answers in the loss.
        undesirable_weight: the weight of bad answers in the loss.
        teacher: the run from whose distributions the model learns; or RUN+ADAPTER.
        alpha: the weight, from 0 to 1, of the text itself beside what the teacher says of it.
        reward: what scores answers: a reward model's run; or rules and FILE.py:FUNCTION, as in 0.5*ends,rule.py.
        true_reward: what scores answers beside the reward, to show whether they agree; it teaches nothing.
        answers: how many answers the model writes before it learns from them.
        group: how many of these answer the same prompt.
        passes: how often the model learns from each answer.
        minibatches: the number of steps in a pass.
        temperature: the temperature at which answers are drawn, or teacher and student are compared; 1 changes nothing.
        clip_ratio: how far a token's probability may move from what it was when the answer was drawn.
        value_weight: the weight of the critic's loss.
        gae_lambda: how far ahead advantages look, from 0 (one token) to 1 (the end of the answer).
        entropy: the weight of a bonus for entropy, which keeps answers different.
        unfinished: the reward of an answer that reaches answer_tokens without an end.
        anyway: whether to tune against a reward model that is too often wrong.
    """

    stage: StageName
    lora: int = 0
    lora_alpha: float = 0.0
    lora_targets: str = "all"
    me: str = ""
    epochs: float = 3.0
    held_out: float = 0.1
    end_weight: float = 1.0
    noise: float = 0.0
    replay: float = 0.25
    replay_weight: float = 5.0
    answer_tokens: int = 64
    beta: float = 0.1
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    chosen_weight: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    teacher: str = ""
    alpha: float = 0.0
    reward: str = ""
    true_reward: str = ""
    answers: int = 64
    group: int = 8
    passes: int = 1
    minibatches: int = 4
    temperature: float = 1.0
    clip_ratio: float = 0.2
    value_weight: float = 0.5
    gae_lambda: float = 0.95
    entropy: float = 0.0
    unfinished: float = -1.0
    anyway: bool = False

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "answers", "group", "passes", "minibatches"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name, most in (("answers", MOST_ANSWERS), ("passes", 1000), ("clip_ratio", 100), ("temperature", 100)):
            if getattr(self, name) > most:
                raise InputError(f"{name} must be at most {most:,}, not {getattr(self, name)}.")
        if not abs(self.unfinished) < 1e6:
            raise InputError(f"unfinished must be smaller than a million, not {self.unfinished}.")
        if self.minibatches > self.answers:
            raise InputError(f"minibatches must be at most as many as answers, not {self.minibatches}.")
        for name in ("held_out", "replay", "noise"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is a share, at least 0 and below 1, not {getattr(self, name)}.")
        for name in ("epochs", "temperature", "clip_ratio"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be more than 0, not {getattr(self, name)}.")
        not_negative = ("lora", "lora_alpha", "beta", "value_weight", "entropy", "replay_weight", "end_weight")
        for name in (*not_negative, "chosen_weight", "desirable_weight", "undesirable_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        for name in ("gae_lambda", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], not {getattr(self, name)}.")
        if self.stage == "distill" and not self.teacher:
            raise InputError("`quoth tune distill` needs --teacher: the run that the model learns from.")
        if self.stage in ("ppo", "grpo", "rloo") and not self.reward:
            raise InputError(
                f"`quoth tune {self.stage}` needs --reward: a reward model's run, a rule, or FILE.py:FUNCTION."
            )
        if self.stage in ("grpo", "rloo") and (self.group < 2 or self.answers % self.group):
            raise InputError(
                f"answers must be a multiple of group, which must be at least 2, not {self.answers} and {self.group}."
            )


_DATA = ("epochs", "held_out")
_LORA = ("lora", "lora_alpha", "lora_targets")
_POLICY = (
    *_LORA,
    "answer_tokens", "beta", "reward", "true_reward", "answers", "passes", "minibatches", "temperature", "clip_ratio",
    "entropy", "unfinished", "held_out", "anyway",
)  # fmt: skip
# The settings that each stage uses.
USES: dict[str, tuple[str, ...]] = {
    "sft": (*_DATA, *_LORA, "me", "end_weight", "noise", "replay", "replay_weight", "answer_tokens"),
    "reward": _DATA,
    "dpo": (*_DATA, *_LORA, "beta", "loss", "chosen_weight", "answer_tokens"),
    "kto": (*_DATA, *_LORA, "beta", "desirable_weight", "undesirable_weight", "answer_tokens"),
    "distill": (*_DATA, *_LORA, "me", "answer_tokens", "teacher", "temperature", "alpha"),
    "ppo": (*_POLICY, "value_weight", "gae_lambda"),
    "grpo": (*_POLICY, "group"),
    "rloo": (*_POLICY, "group"),
}
