"""What runs the model for the engine: rows of tokens in, logits out, with a memory of each slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from quoth.generate.cache import Cache
from quoth.generate.sampling import Sampling, draw
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.system.memory import available_bytes, size


@dataclass
class Batch:
    """The rows of a step: for each a token, its slot, its position in the window, and whether its logits are wanted.

    Rows of one slot follow each other, in the order of their positions.
    """

    token: list[int] = field(default_factory=list)
    slot: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)

    def add(self, slot: int, first: int, tokens: Sequence[int], wanted: int) -> None:
        """Tokens that stand at `first` and later, the last `wanted` of which are to be answered."""
        n = len(tokens)
        self.token += tokens
        self.slot += [slot] * n
        self.position += range(first, first + n)
        self.wanted += [i >= n - wanted for i in range(n)]

    def __len__(self) -> int:
        return len(self.token)


class Decoder(Protocol):
    """A model that remembers what it has read, in `slots`, each of a whole context.

    Attributes:
        rows: how many rows a step takes at most.
        keep: how many tokens are read again when a window is full.
        exact: a row's logits have the same bits whatever else the step holds, so a prompt may be cut anywhere.
        threads: how many it uses, of a CPU.
        weight_bytes: what it reads for each token of a lone request.
        why_not: why a compiled decoder that could serve the model was not built; empty where there is nothing to tell.
    """

    slots: int
    rows: int
    keep: int
    exact: bool
    threads: int
    weight_bytes: int
    why_not: str

    def reload(self, model: GPT) -> None:
        """Take the weights of another model, of the same shape, in milliseconds; what slots hold is void afterwards.

        The compiled decoder copies them. The others read the model itself, which is set to evaluate, so that a
        training step changes what they compute: reload after each.

        Raises:
            InputError: the model has another shape, number type or device; then nothing has changed.
        """
        ...

    def step(self, batch: Batch) -> Tensor:
        """Take in a batch, over what its slots held at these positions; the logits (answers, V) of the wanted rows."""
        ...

    def copy(self, slot: int, to: int, count: int) -> None:
        """Let slot `to` have read what `slot` has read, as far as its first `count` positions."""
        ...

    def draw(
        self, logit_RV: Tensor, rows: Sequence[int], samplings: Sequence[Sampling], uniforms: Sequence[float]
    ) -> list[int]:
        """`draw` for some of these rows, each as its own sampling wants."""
        ...


class TorchDraw:
    """The drawing of a `Decoder`, by PyTorch: rows that are drawn alike together."""

    exact = False

    def draw(
        self, logit_RV: Tensor, rows: Sequence[int], samplings: Sequence[Sampling], uniforms: Sequence[float]
    ) -> list[int]:
        tokens, left = [0] * len(rows), list(range(len(rows)))
        while left:
            alike = [i for i in left if samplings[i] == samplings[left[0]]]
            u_B = torch.tensor([uniforms[i] for i in alike], dtype=torch.float64, device=logit_RV.device)
            drawn = draw(logit_RV[[rows[i] for i in alike]], samplings[left[0]], u_B)
            for i, token in zip(alike, drawn.tolist(), strict=True):
                tokens[i] = token
            left = [i for i in left if i not in alike]
        return tokens


class TorchDecoder(TorchDraw):
    """`Decoder` for any model with a cache, on any device.

    All slots take part in a step whose rows are one a slot, so that a request is computed alike whoever its
    neighbours are; a prompt's stretches are computed alone.
    """

    why_not = ""

    def __init__(self, model: GPT, *, slots: int = 1, rows: int = 128, context: int = 0) -> None:
        c = windowed(model.config, context)
        self.model, self.slots, self.rows, self.keep = model.eval(), slots, max(rows, slots), max(1, c.context // 2)
        weight = next(model.parameters())
        self.device, self.context = weight.device, c.context
        needed = self.memory_bytes(c, slots, self.rows, weight.element_size())
        refuse_beyond_memory(needed, weight.device.type, slots, c.context)
        self.cache = Cache(slots, c, weight.dtype, weight.device)
        self.threads, self.weight_bytes = torch.get_num_threads(), weight_bytes(model)

    @staticmethod
    def memory_bytes(c: GPTConfig, slots: int, rows: int, element_size: int = 4) -> int:
        """How many bytes a decoder of this shape takes beside the model: the cache, and the logits of a step."""
        cache = 2 * c.layers * slots * c.kv_heads * (c.context + 1) * c.head_size
        return cache * element_size + 4 * rows * c.vocabulary

    def reload(self, model: GPT) -> None:
        refuse_other_shape(self.model.config, model)
        old, new = self.model.embed.weight, model.embed.weight
        if (old.device, old.dtype) != (new.device, new.dtype):
            raise InputError(f"The decoder holds {old.dtype} on {old.device}, not {new.dtype} on {new.device}.")
        self.model = model.eval()

    def step(self, batch: Batch) -> Tensor:
        found: dict[int, Tensor] = {}
        stretches = _stretches(batch)
        alone = [s for s in stretches if s.stop - s.start > 1]
        together = [s.start for s in stretches if s.stop - s.start == 1]
        with reading(self.model):
            for stretch in alone:
                logit_TV = self._read(batch, stretch)
                found.update(zip(range(stretch.start, stretch.stop), logit_TV, strict=True))
            if together:
                found.update(zip(together, self._next(batch, together), strict=True))
        return self._stacked([found[row] for row, wanted in enumerate(batch.wanted) if wanted])

    def copy(self, slot: int, to: int, count: int) -> None:
        for there in (self.cache.k, self.cache.v):
            there[:, to, :, :count] = there[:, slot, :, :count]

    def _stacked(self, logits: list[Tensor]) -> Tensor:
        if not logits:
            return torch.empty(0, self.model.config.vocabulary)
        # What is drawn is drawn in float64, which Apple's GPUs do not know.
        return torch.stack(logits).cpu() if self.device.type == "mps" else torch.stack(logits)

    def _read(self, batch: Batch, stretch: slice) -> Tensor:
        """The logits (T, V) of one slot's rows."""
        slot = batch.slot[stretch.start]
        return self._logits(slice(slot, slot + 1), [batch.token[stretch]], [batch.position[stretch]])[0]

    def _next(self, batch: Batch, at: list[int]) -> Tensor:
        """The logits (rows, V) of slots with one row each. The others' goes where nothing is kept."""
        token, place = [[0] for _ in range(self.slots)], [[self.context] for _ in range(self.slots)]
        for row in at:
            token[batch.slot[row]], place[batch.slot[row]] = [batch.token[row]], [batch.position[row]]
        return self._logits(slice(0, self.slots), token, place)[[batch.slot[row] for row in at], -1]

    def _logits(self, slots: slice, token: list[list[int]], place: list[list[int]]) -> Tensor:
        token_BT, place_BT = (torch.tensor(x, device=self.device) for x in (token, place))
        # Sums over different lengths differ in their last bits, so what slots share does not depend on the others.
        self.cache.at(slots, place_BT, self.context if len(place) > 1 else place[0][-1] + 1)
        return self.model(token_BT, self.cache.layers, place_BT.clamp(max=self.context - 1)).float()  # type: ignore[no-any-return]


class WindowDecoder(TorchDraw):
    """`Decoder` for blocks that keep no cache: each token reads the last `context` ones anew."""

    why_not = ""

    def __init__(self, model: GPT, *, slots: int = 1, rows: int = 128, context: int = 0) -> None:
        self.model, self.slots, self.keep = model.eval(), slots, windowed(model.config, context).context
        self.rows = max(rows, slots * self.keep)
        self.windows: list[list[int]] = [[] for _ in range(slots)]
        self.threads, self.weight_bytes = torch.get_num_threads(), weight_bytes(model)

    def reload(self, model: GPT) -> None:
        refuse_other_shape(self.model.config, model)
        self.model = model.eval()

    def copy(self, slot: int, to: int, count: int) -> None:
        self.windows[to] = self.windows[slot][:count]

    def step(self, batch: Batch) -> Tensor:
        answers = []
        device = next(self.model.parameters()).device
        with reading(self.model):
            for row, token in enumerate(batch.token):
                window = self.windows[batch.slot[row]]
                window[batch.position[row] :] = [token]
                if batch.wanted[row]:
                    answers.append(self.model(torch.tensor([window], device=device))[0, -1].float())
        return torch.stack(answers) if answers else torch.empty(0, self.model.config.vocabulary)


def windowed(config: GPTConfig, context: int) -> GPTConfig:
    """The configuration with windows of so many tokens; 0 leaves it as it is.

    Raises:
        InputError: the model's own context is smaller.
    """
    if context > config.context:
        raise InputError(f"The model has a context of {config.context:,} tokens, so windows cannot have {context:,}.")
    return config.replace(context=context or config.context)


# What a model's weights were made from does not matter to those who read them.
UNREAD = ("family", "dropout", "dropout_shape", "initialization")


def refuse_other_shape(config: GPTConfig, model: GPT) -> None:
    """Refuse to reload a model whose weights would not fit.

    Raises:
        InputError: the first field of its configuration that differs.
    """
    new = dataclasses.asdict(model.config)
    for name, old in dataclasses.asdict(config).items():
        if new[name] != old and name not in UNREAD:
            raise InputError(f"A model of the same shape was wanted: {name} is {new[name]}, not {old}.")


def refuse_beyond_memory(needed: int, device: str, slots: int, context: int) -> None:
    """Refuse a decoder whose arrays would not fit, before any of them is made.

    Raises:
        InputError: fewer bytes than `needed` are available on the device.
    """
    available = available_bytes(device)
    if needed > (2**62 if available is None else available):
        raise InputError(
            f"{slots} windows of {context:,} tokens need {size(needed)} of memory, "
            f"but {size(available or 0)} are available; take fewer --slots."
        )


def weight_bytes(model: GPT) -> int:
    """The size of all weights but the tables that rows are looked up in."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if (head := getattr(model, "head", None)) is not None:
        tables.discard(id(getattr(head, "weight", None)))
    return sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in tables)


def reading(model: GPT) -> torch.no_grad | torch.inference_mode:
    """Without gradients. What a sharded model, which can `unshard`, gathers here is used again by training."""
    return torch.no_grad() if hasattr(model, "unshard") else torch.inference_mode()


def _stretches(batch: Batch) -> list[slice]:
    """Rows of one slot that belong together."""
    ends = [i for i in range(1, len(batch)) if batch.slot[i] != batch.slot[i - 1]] + [len(batch)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
