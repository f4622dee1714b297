"""A world so small that all of it can be listed: two prompts, five answers of one token, and what people prefer.

Every mean is a sum here, so what is said of an objective can be seen exactly, and nothing has to be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from quoth.text.batches import Batch

PROMPTS = ("Shall I go?", "Do you love me?")
ANSWERS = ("ay", "no", "perhaps", "never", "my lord")
# Of two answers to a prompt, one of strength a is preferred to one of strength b in a of a + b comparisons.
STRENGTH_PN = torch.tensor([[6, 1, 2, 1, 3], [4, 1, 2, 1, 12]])
# Bradley and Terry's model says the same of scores whose difference is the logarithm of those odds.
REWARD_PN = STRENGTH_PN.double().log()
# What a finetuned model answers, as log-probabilities: what people like best is not what it says most often.
REFERENCE_PN = torch.tensor([[0.10, 0.30, 0.30, 0.25, 0.05], [0.20, 0.30, 0.25, 0.20, 0.05]]).double().log()


class Policy(nn.Module):
    """A bigram, the lecture's first model: a table with the logits of each prompt's answers. (B, T) → (B, T, N)."""

    def __init__(self, logit_PN: Tensor = REFERENCE_PN) -> None:
        super().__init__()
        self.logit_PN = nn.Parameter(logit_PN.clone())

    def forward(self, token_BT: Tensor) -> Tensor:
        return self.logit_PN[token_BT]

    def log_probs(self) -> Tensor:
        """The log-probability of each answer to each prompt: (P, N)."""
        return self.logit_PN.log_softmax(-1)


class Scorer(nn.Module):
    """A reward model that is a table: ids (B, T), of which the first is the prompt, → scores (B, T, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.score_PN = nn.Parameter(torch.zeros_like(REWARD_PN))

    def forward(self, token_BT: Tensor) -> Tensor:
        return self.score_PN[token_BT[:, :1], token_BT][..., None]


def rows(answered: Sequence[tuple[int, int]]) -> Batch:
    """A batch with a row for each prompt and answer, given by their numbers."""
    x_B, y_B = torch.tensor(answered).T
    return Batch(x_B[:, None], y_B[:, None])


def comparisons() -> Batch:
    """All comparisons, each as often as it comes out so: rows alternate, the chosen answer and the rejected one."""
    pairs: list[tuple[int, int]] = []
    for prompt, strengths in enumerate(STRENGTH_PN.tolist()):
        for chosen, strength in enumerate(strengths):
            for rejected in set(range(len(ANSWERS))) - {chosen}:
                pairs += [(prompt, chosen), (prompt, rejected)] * strength
    return rows(pairs)


def minimize(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Follow the exact gradient of a loss until it is flat."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def again() -> Tensor:
        optimizer.zero_grad()
        (value := loss()).backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(again)  # type: ignore[no-untyped-call]
