"""How far a policy is from its reference: the Kullback–Leibler divergence, exact for each place or estimated.

KL(π, π_ref) is the mean of log π(y) − log π_ref(y) over answers y that π draws. Three estimates of it need nothing but
the drawn tokens' log-probabilities (Schulman 2020, "Approximating KL divergence"). As a number to report, k1 and k3
have the right mean, and k3 varies less. For learning, what matters is the mean of an estimate's *gradient*, and there
they differ; `tests/train/test_oracles.py` lists all answers of a tiny model and shows each of these facts:

- k1 in the loss has a gradient whose mean is zero: it holds a policy to nothing. k1 in the *reward* is exact, since
  REINFORCE then weighs each token's gradient with all the KL that follows it. PPO and RLOO here do that
  (`advantages.token_rewards`).
- k3 in the loss, as DeepSeekMath has it, has the gradient of another divergence, KL(π_ref, π), at each place.
- k3 times the ratio π / π_old in the loss has the exact gradient of KL at each place with the states held: it leaves
  out that an earlier token changes which states come later. GRPO here does that (`policy.grpo`), as TRL does.
- k2 in the loss has, at ratio 1, the same gradient as k3 times the ratio.
- k2, or k3 times the ratio, of *whole answers* is exact, but varies with the exponential of an answer's length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """log π − log π_ref of what was drawn, of any shape: unbiased, and negative where the reference likes it better."""
    return policy - reference


def k2(policy: Tensor, reference: Tensor) -> Tensor:
    """(log π − log π_ref)² / 2 of what was drawn, of any shape: biased, never negative."""
    return 0.5 * (policy - reference) ** 2


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """π_ref / π − 1 − log(π_ref / π) of what was drawn, of any shape: unbiased, never negative, and it varies little.

    >>> k3(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0]))
    tensor([0.0000, 0.7183])
    """
    difference = reference - policy
    return torch.expm1(difference) - difference


def kl_per_place(policy_BTV: Tensor, reference_BTV: Tensor) -> Tensor:
    """The exact KL(π, π_ref) of the next token at each place, in nats, from both models' logits: (B, T).

    Its sum over an answer's places, averaged over answers that π draws, is the KL of whole answers.

    >>> kl_per_place(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]))
    tensor([[0.1201]])
    """
    policy_BTV, reference_BTV = (logit.to(_wide(logit)).log_softmax(-1) for logit in (policy_BTV, reference_BTV))
    return (policy_BTV.exp() * (policy_BTV - reference_BTV)).sum(-1)


def entropy(logit_BTV: Tensor) -> Tensor:
    """The entropy of the next token at each place, in nats: (B, T).

    >>> entropy(torch.zeros(1, 1, 4))
    tensor([[1.3863]])
    """
    log_BTV = logit_BTV.to(_wide(logit_BTV)).log_softmax(-1)
    return -(log_BTV.exp() * log_BTV).sum(-1)


def _wide(logit: Tensor) -> torch.dtype:
    return torch.float64 if logit.dtype == torch.float64 else torch.float32
