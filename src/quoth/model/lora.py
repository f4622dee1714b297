"""Low-rank adapters (LoRA): two thin matrices beside a linear layer's weight, which train while the weight stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.system.errors import InputError, suggestion

if TYPE_CHECKING:
    from quoth.model.gpt import GPT

# Sections of a block whose linear layers get adapters; a layer's own name, such as "query", is a target too.
TARGETS = ("attention", "mlp", "all")


@dataclass(frozen=True)
class Factors:
    """A layer's adapter: A (r, inputs), B (outputs, r) and α; it adds α/r B A to the layer's weight."""

    a: Tensor
    b: Tensor
    alpha: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Outputs, rank, inputs."""
        return self.b.shape[0], self.a.shape[0], self.a.shape[1]

    @property
    def update(self) -> Tensor:
        """α/r B A, (outputs, inputs), in at least float32 even under autocast."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        with torch.autocast(self.a.device.type, enabled=False):
            return self.alpha / self.a.shape[0] * (self.b.to(wide) @ self.a.to(wide))


@dataclass(frozen=True)
class Base:
    """The checkpoint whose weights adapters were added to: its folder, and the SHA-256 of its manifest."""

    folder: str
    sha256: str


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank adapter: x → x Wᵀ + bias + α/r (x Aᵀ) Bᵀ (Hu et al. 2021, arXiv:2106.09685).

    W (outputs, inputs) and the bias are frozen; A (r, inputs) and B (outputs, r) are trained. B is zero at first, so
    the layer begins as the one that it was made from.

    `weight` is W + α/r B A, computed when it is read, so whatever reads weights (a decoder, an export, a checkpoint)
    needs to know nothing of adapters. `forward` does not read it: products with the thin matrices take less time and
    memory than a dense sum, its copy for the backward pass, and its dense gradient.

    Attributes:
        base: W.
        alpha: α; the adapter's product is multiplied by α/r.
        enabled: whether the adapter takes part; without it the layer is the one that it was made from.
    """

    base: nn.Parameter

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make a parameter called `weight`.
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_parameter("base", linear.get_parameter("weight"))
        self.bias = linear.bias
        self.lora_A = nn.Parameter(self.base.new_empty(rank, self.in_features))
        self.lora_B = nn.Parameter(self.base.new_zeros(self.out_features, rank))
        nn.init.normal_(self.lora_A, std=self.in_features**-0.5)
        self.alpha, self.enabled = alpha, True
        self.train(linear.training)

    @property
    def rank(self) -> int:
        return self.lora_A.shape[0]

    @property
    def scale(self) -> float:
        """α/r."""
        return self.alpha / self.rank

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """W + α/r B A, (outputs, inputs), of W's number type.

        It is summed in at least float32, since a sum in bfloat16 loses most of a small update.
        """
        if not self.enabled:
            return self.base
        update = Factors(self.lora_A, self.lora_B, self.alpha).update
        return (self.base.to(update.dtype) + update).to(self.base.dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.base, self.bias)
        return y + F.linear(F.linear(x, self.lora_A), self.lora_B * self.scale) if self.enabled else y

    @property
    def factors(self) -> Factors:
        """A and B without gradients, in the layer's own memory."""
        return Factors(self.lora_A.detach(), self.lora_B.detach(), self.alpha)

    def plain(self) -> nn.Linear:
        """The linear layer that this one was made from, with the same parameters."""
        made = nn.Linear(self.in_features, self.out_features, device="meta")
        made.weight, made.bias = self.base, self.bias
        return made.train(self.training)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer, after the adapter is added to its weight."""
        self.base.copy_(self.weight)
        return self.plain()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}"


def add_lora(model: GPT, rank: int, alpha: float | None = None, targets: str | Sequence[str] = "all") -> None:
    """Add an adapter to linear layers inside the blocks, and freeze all other parameters.

    Args:
        rank: r, the number of rows of A and of columns of B.
        alpha: α; twice the rank if left out.
        targets: attention, mlp or all, or layers' names such as "query"; several are a sequence, or have commas between
            them.

    >>> from quoth.model.gpt import GPT, family
    >>> model = GPT(family("modern", vocabulary=65, width=64, layers=2))
    >>> add_lora(model, rank=4, targets="attention")
    >>> model.blocks[0].attention.query
    LoRALinear(in_features=64, out_features=64, bias=False, rank=4, alpha=8)

    Raises:
        InputError: the model has adapters already, a target names no linear layer, or the rank or alpha is out of its
            range.
    """
    if is_adapted(model):
        raise InputError("The model has adapters already; merge them into its weights first.")
    found = targeted(model, targets.split(",") if isinstance(targets, str) else targets)
    most = min(min(linear.in_features, linear.out_features) for linear in found.values())
    if not 1 <= rank <= most:
        raise InputError(f"The rank of adapters must lie in 1 to {most}, the fewest channels of a layer, not {rank}.")
    alpha = 2.0 * rank if alpha is None else alpha
    if not 0 < alpha < float("inf"):
        raise InputError(f"The alpha of adapters must be a finite number above 0, not {alpha}.")
    _put_on(model, {name: LoRALinear(linear, rank, alpha) for name, linear in found.items()})


def put_on(model: GPT, given: Mapping[str, Factors]) -> None:
    """Add given adapters to linear layers, by the layers' names, and freeze all other parameters.

    Raises:
        InputError: the model has adapters already.
    """
    if is_adapted(model):
        raise InputError("The model has adapters already; merge them into its weights first.")
    layers = {}
    for name, factors in given.items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        layers[name] = LoRALinear(linear, factors.a.shape[0], factors.alpha)
    _put_on(model, layers)
    set_factors(model, given)


@torch.no_grad()
def set_factors(model: GPT, given: Mapping[str, Factors]) -> None:
    """Give a model's adapters the values of others, of the same layers, ranks and alphas.

    Raises:
        InputError: they are of others.
    """
    layers = adapters(model)
    for name in sorted({*layers, *given}):
        here, there = layers[name].factors if name in layers else None, given.get(name)
        if not here or not there or (here.shape, here.alpha) != (there.shape, there.alpha):
            raise InputError(
                f"The adapters differ at {name}: the model has {_described(here)}, and the saved ones "
                f"are {_described(there)}; choose the same rank, alpha and targets, or merge the saved ones first."
            )
        here.a.copy_(there.a)
        here.b.copy_(there.b)


def _described(factors: Factors | None) -> str:
    return f"rank {factors.a.shape[0]} with alpha {factors.alpha:g}" if factors else "none there"


def _put_on(model: GPT, layers: Mapping[str, LoRALinear]) -> None:
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    model.requires_grad_(False)
    for layer in layers.values():
        layer.lora_A.requires_grad_(True)
        layer.lora_B.requires_grad_(True)


def targeted(model: GPT, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers inside the blocks that targets name, by their names.

    Raises:
        InputError: a target names none, or a layer that is more than its weight and bias.
    """

    def inner(name: str) -> str:
        return ".".join(name.split(".")[2:])

    inside = {f"blocks.{name}": m for name, m in model.blocks.named_modules() if isinstance(m, nn.Linear)}
    chosen = []
    for target in map(str.strip, targets):
        if target in ("head", "embed"):
            raise InputError(
                f"Adapters cannot be added to {target}: its rows belong to single tokens, and each row can be learned "
                "as cheaply in full; choose attention, mlp or all."
            )
        fitting = [name for name in inside if target == "all" or f".{target}." in f".{inner(name)}."]
        if not fitting:
            known = {*TARGETS, *(name.rpartition(".")[2] for name in inside)}
            raise InputError(f"The model's blocks have no linear layer {target!r}{suggestion(target, known)}.")
        chosen += fitting
    if odd := [name for name in chosen if type(inside[name]) is not nn.Linear]:
        raise InputError(f"The model's {odd[0]} is no plain linear layer, so no adapter can be added to it.")
    return {name: linear for name, linear in inside.items() if name in chosen}


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers of a model that have adapters, by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def is_adapted(model: nn.Module) -> bool:
    """Whether a layer of the model has an adapter."""
    return any(isinstance(module, LoRALinear) for module in model.modules())


def merge(model: GPT) -> None:
    """Add all adapters to the weights, in at least float32, which leaves a plain model; every parameter then trains."""
    for name, layer in adapters(model).items():
        model.set_submodule(name, layer.merged())
    model.requires_grad_(True)
    model.base = None


def base_weights(model: GPT) -> dict[str, Tensor]:
    """The weights without adapters, by the names that they have in a plain model."""
    layers = adapters(model)

    def plain(name: str) -> str:
        layer, _, part = name.rpartition(".")
        return f"{layer}.weight" if layer in layers and part == "base" else name

    own = {f"{layer}.{part}" for layer in layers for part in ("lora_A", "lora_B")}
    return {plain(name): tensor for name, tensor in model.state_dict().items() if name not in own}


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Let the model compute as its base while the block lasts, so that a reference model needs no second copy.

    >>> with torch.no_grad(), without_adapters(model):                    # doctest: +SKIP
    ...     reference_B = answer_log_probs(model, batch)
    """
    layers = adapters(model).values()
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True
