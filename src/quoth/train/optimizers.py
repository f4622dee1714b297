"""The optimizers AdamW and Muon, and which parameters each of them moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quoth.model.lora import is_adapted
from quoth.system.errors import InputError
from quoth.train.parallel import gathered, own, spread


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the optimizer moves the weights.

    Attributes:
        optimizer: muon (Muon for matrices inside blocks, AdamW for the rest) or adamw (AdamW for everything).
        learning_rate: the peak learning rate of the matrices inside blocks.
        embedding_learning_rate: the peak learning rate of embeddings, output head, norms and biases.
        weight_decay: each step shrinks the matrices inside blocks by this share times the learning rate; 0 for none.
        momentum: Muon's momentum, at least 0 and below 1.
        beta1: AdamW's decay rate of the gradients' running mean, at least 0 and below 1.
        beta2: AdamW's decay rate of the squared gradients' running mean, at least 0 and below 1.
        clip: the largest global norm of the gradients, which are scaled down to it; 0 does not clip.
        warmup: the share of the run, at its start, in which the learning rate rises to its peak; 0 for none.
        cooldown: the share of the run, at its end, in which the learning rate falls to zero; 0 for none.
    """

    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 0.02
    embedding_learning_rate: float = 0.02
    weight_decay: float = 0.1
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 0.0
    warmup: float = 0.02
    cooldown: float = 0.6

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw"):
            raise InputError(f"optimizer must be muon or adamw, not {self.optimizer!r}.")
        for name in ("learning_rate", "embedding_learning_rate", "weight_decay", "clip", "warmup", "cooldown"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        for name in ("warmup", "cooldown"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} is a share of the run, at most 1, not {getattr(self, name)}.")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), not {getattr(self, name)}.")


# Five quintic polynomials whose composition is nearest to the sign function on [1e-3, 1], from Amsel et al. 2025,
# "The Polar Express" (arXiv:2505.16932), algorithm 1.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalize(g_NRC: Tensor) -> Tensor:
    """An approximation of the (semi-)orthogonal matrix nearest to each of N matrices: U Vᵀ of its SVD.

    The result's singular values lie within about [0.7, 1.2]. Matrices should be at least as tall as wide. The result
    has the input's number type; bfloat16 is precise enough, and fastest.
    """
    norm: Tensor = torch.linalg.matrix_norm(g_NRC, keepdim=True, dtype=torch.promote_types(g_NRC.dtype, torch.float32))
    x = g_NRC / (norm * 1.01 + 1e-7).type_as(g_NRC)
    for a, b, c in POLAR_EXPRESS:
        gram = x.mT @ x
        # x (a + b gram + c gram²), with each sum folded into the product that it follows.
        x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    return x


def nesterov(gradients: list[Tensor], momenta: list[Tensor], beta: float) -> list[Tensor]:
    """Update the momenta with the gradients, in place; return the directions to move along, a mean of both.

    >>> momentum = torch.zeros(1)
    >>> nesterov([torch.ones(1)], [momentum], 0.5), momentum
    ([tensor([0.7500])], tensor([0.5000]))
    """
    torch._foreach_lerp_(momenta, gradients, 1 - beta)
    return list(torch._foreach_lerp(gradients, momenta, beta))


class Muon(torch.optim.Optimizer):
    """An optimizer for the matrices inside blocks, which moves them along orthogonalized Nesterov momentum.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. Matrices of one shape or its transpose are
    stacked and orthogonalized together. A matrix moves by lr · √max(1, rows / columns), and decays by
    lr · weight_decay. Each rank has a part of a sharded matrix's momentum; orthogonalization gathers the parts.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, momentum: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        shapes: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for p in params:
            if p.dim() != 2:
                raise InputError(f"Muon moves matrices, not a tensor of shape {tuple(p.shape)}.")
            shapes[max(p.shape), min(p.shape)].append(p)
        groups: list[dict[str, Any]] = [{"params": ps} for _, ps in sorted(shapes.items())]
        self.dtype = dtype
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [own(self.state[p]["momentum"]) for p in params]
            parts = nesterov([own(p.grad) for p in params], momenta, group["momentum"])
            direction = torch.stack([_tall(gathered(part, p)) for part, p in zip(parts, params, strict=True)])
            update = orthogonalize(direction.to(self.dtype)).type_as(direction)
            turned = (u if p.shape[0] >= p.shape[1] else u.mT for p, u in zip(params, update, strict=True))
            moves = [own(spread(u, p)) for p, u in zip(params, turned, strict=True)]
            torch._foreach_mul_(moves, [-group["lr"] * sqrt(max(1.0, p.shape[0] / p.shape[1])) for p in params])
            here = [own(p) for p in params]
            torch._foreach_mul_(here, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(here, moves)


def _tall(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


class Together:
    """Several optimizers that step as one. Each parameter group remembers its peak learning rate."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        for group in self.param_groups:
            group.setdefault("peak", group["lr"])

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def scale(self, multiplier: float) -> None:
        """Set every learning rate to this share of its peak."""
        for group in self.param_groups:
            group["lr"] = group["peak"] * multiplier

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weight matrices inside blocks, which Muon moves unless they are adapters."""
    return [p for name, p in model.named_parameters() if ".blocks." in f".{name}" and p.dim() == 2]


def make_optimizer(
    model: nn.Module, config: OptimizerConfig | None = None, dtype: torch.dtype = torch.float32
) -> Together:
    """The optimizer of a model's trainable parameters: matrices inside `blocks` decay, and Muon moves them if chosen.

    AdamW moves the matrices of adapters, whichever optimizer is chosen: Muon would give all directions of such a matrix
    the same size. `dtype` is the number type in which Muon orthogonalizes: bfloat16 where the processor supports it.

    Raises:
        InputError: all parameters are frozen.
    """
    c = config or OptimizerConfig()
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError("All of the model's parameters are frozen, so there is nothing to train.")
    inside = [p for p in matrices(model) if p.requires_grad]
    chosen = {id(p) for p in inside}
    rest = [p for p in trainable if id(p) not in chosen]
    betas, fused = (c.beta1, c.beta2), trainable[0].device.type in ("cpu", "cuda")
    others = {"params": rest, "lr": c.embedding_learning_rate, "weight_decay": 0.0}
    if c.optimizer == "adamw" or is_adapted(model):
        decayed = {"params": inside, "lr": c.learning_rate, "weight_decay": c.weight_decay}
        return Together(torch.optim.AdamW([g for g in (decayed, others) if g["params"]], betas=betas, fused=fused))
    parts: list[torch.optim.Optimizer] = []
    if rest:
        parts.append(torch.optim.AdamW([others], betas=betas, eps=1e-10, fused=fused))
    if inside:
        parts.append(Muon(inside, c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay, dtype=dtype))
    return Together(*parts)
