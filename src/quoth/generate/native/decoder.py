"""Decoding on a processor by compiled code, in float32 with weights as float32, bfloat16 or int8."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quoth.generate.decoder import Rows, weight_bytes
from quoth.generate.native.build import library
from quoth.generate.sampling import Sampling
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT, Block, replaced_parts
from quoth.model.layers import SwiGLU, is_overridden
from quoth.system.device import cores, fastest
from quoth.system.errors import InputError

Weights = Literal["float32", "bfloat16", "int8"]
FORMS: dict[str, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
# Of a weight; int8 has a float32 for each 32.
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1.125}
NORMS = {"none": 0, "layernorm": 1, "rmsnorm": 2}
AFTER = {"relu": 2, "gelu": 3, "swiglu": 4}
# As decoder.cpp numbers them.
VECTORS = [
    *("attention_norm", "attention_norm_bias", "query_norm", "key_norm", "mlp_norm", "mlp_norm_bias"),
    *("embed", "places", "cos", "sin"),
]
MATRICES = ("project", "out", "up", "down")
STEP: list[Any] = [ctypes.c_void_p, ctypes.c_int, *3 * [ctypes.c_void_p], ctypes.c_char_p, ctypes.c_void_p]
DRAW: list[Any] = [ctypes.c_void_p, ctypes.c_int, *4 * [ctypes.c_void_p]]
# Outputs that lie together in a matrix.
PANEL = 32


class Shape(ctypes.Structure):
    """What decoder.cpp calls Shape."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("vocabulary", "context", "layers", "width", "heads", "kv_heads")),
        *((name, ctypes.c_int32) for name in ("head_size", "hidden", "norm", "after", "learned", "rope", "qk_norm")),
        *((name, ctypes.c_int32) for name in ("form", "slots", "rows", "threads")),
        ("eps", ctypes.c_float),
    ]


def can_decode(model: nn.Module) -> bool:
    """Whether the compiled code knows all of a model's parts, and their weights say all of what they do.

    A block may have a `forward` of its own: one that keeps less for going backward computes the same.
    """
    if type(model) is not GPT or replaced_parts(model):
        return False
    if any(map(is_overridden, (module for module in model.modules() if type(module) is not Block))):
        return False
    weight = model.embed.weight
    return weight.device.type == "cpu" and weight.dtype != torch.float64


class NativeDecoder:
    """`Decoder` for a GPT of plain blocks on a CPU. It keeps a copy of the weights, packed for reading in order.

    >>> decoder = NativeDecoder(model, slots=4, weights="bfloat16")  # doctest: +SKIP

    Raises:
        BuildError: there is no compiler.
    """

    exact = True

    def __init__(
        self, model: GPT, *, slots: int = 1, rows: int = 128, weights: Weights = "float32", threads: int = 0
    ) -> None:
        c = model.config
        self.slots, self.rows, self.keep = slots, max(rows, slots), max(1, c.context // 2)
        self.vocabulary = c.vocabulary
        self._library = library()
        self._library.decoder_new.restype = ctypes.c_void_p
        self._library.decoder_step.argtypes, self._library.decoder_draw.argtypes = STEP, DRAW
        shape = _shape(c, slots, self.rows, weights, max(1, threads))
        self._pointer = ctypes.c_void_p(self._library.decoder_new(ctypes.byref(shape)))
        if not self._pointer:
            needs = f"{slots} windows of {c.context:,} tokens and {max(1, threads)} threads"
            raise InputError(f"There is not enough memory here for {needs}; take fewer --slots or --threads.")
        # At the interpreter's end a thread may still be in a step.
        weakref.finalize(self, self._library.decoder_free, self._pointer).atexit = False
        self._load(model)
        numbers = weight_bytes(model) // model.embed.weight.element_size()
        self.weight_bytes = int(numbers * BYTES[weights])
        self.threads = threads or self._fastest()

    def step(self, rows: Rows) -> Tensor:
        """Take in rows; the logits (answers, V) of those that are `wanted`, in order."""
        n, wanted, table = len(rows), bytes(rows.wanted), array("i", rows.token + rows.slot + rows.position)
        logit_RV = torch.empty(sum(wanted), self.vocabulary)
        at, _ = table.buffer_info()
        self._library.decoder_step(self._pointer, n, at, at + 4 * n, at + 8 * n, wanted, logit_RV.data_ptr())
        return logit_RV

    def draw(
        self, logit_RV: Tensor, rows: Sequence[int], samplings: Sequence[Sampling], uniforms: Sequence[float]
    ) -> list[int]:
        wishes, row, token = array("d"), array("i", rows), array("i", rows)
        for s, u in zip(samplings, uniforms, strict=True):
            wishes.extend((s.temperature, min(s.top_k, self.vocabulary), s.top_p, s.min_p, u))
        given, drawn = (logit_RV.data_ptr(), *(a.buffer_info()[0] for a in (row, wishes))), token.buffer_info()[0]
        self._library.decoder_draw(self._pointer, len(rows), *given, drawn)
        return token.tolist()

    def _fastest(self) -> int:
        """How many threads take the shortest time for a token; more have to be clearly faster."""
        row, best, chosen = Rows([0], [0], [0], [True]), float("inf"), 1
        for threads in sorted({1, max(1, cores() // 2), cores()}):
            self._library.decoder_threads(self._pointer, threads)
            took = fastest(lambda: self.step(row), "cpu", seconds=0.02)
            if took < 0.9 * best:
                best, chosen = took, threads
        self._library.decoder_threads(self._pointer, chosen)
        return chosen

    def _load(self, model: GPT) -> None:
        c, last = model.config, model.config.layers
        positions: Any = model.positions
        blocks: Iterable[Any] = model.blocks
        for layer, block in enumerate(blocks):
            attention, mlp = block.attention, block.mlp
            self._norm(layer, "attention_norm", block.attention_norm)
            self._norm(layer, "mlp_norm", block.mlp_norm)
            if c.qk_norm:
                self._vector(layer, "query_norm", attention.query_norm.weight)
                self._vector(layer, "key_norm", attention.key_norm.weight)
            self._matrix(layer, "project", [attention.query, attention.key, attention.value])
            self._matrix(layer, "out", [attention.out])
            up = [mlp.gate, mlp.up] if isinstance(mlp, SwiGLU) else [mlp.up]
            self._matrix(layer, "up", up, interleaved=isinstance(mlp, SwiGLU))
            self._matrix(layer, "down", [mlp.down])
        self._norm(last, "attention_norm", model.norm)
        self._vector(last, "embed", model.embed.weight)
        if c.positions == "learned":
            self._vector(last, "places", positions.table.weight)
        if c.positions == "rope":
            self._vector(last, "cos", positions.cos_TK)
            self._vector(last, "sin", positions.sin_TK)
        self._matrix(last, "project", [model.head])

    def _norm(self, layer: int, name: str, norm: nn.Module) -> None:
        if (weight := getattr(norm, "weight", None)) is not None:
            self._vector(layer, name, weight)
        if (bias := getattr(norm, "bias", None)) is not None:
            self._vector(layer, f"{name}_bias", bias)

    def _vector(self, layer: int, name: str, values: Tensor) -> None:
        array = _array(values)
        self._library.decoder_vector(
            self._pointer, layer, VECTORS.index(name), _address(array), ctypes.c_int64(array.size)
        )

    def _matrix(self, layer: int, name: str, linears: Sequence[nn.Linear], *, interleaved: bool = False) -> None:
        """Linear layers of one input as one matrix; interleaved, a panel of each in turn."""
        weights = [_array(linear.weight) for linear in linears]
        biases = [
            np.zeros(len(weight), np.float32) if linear.bias is None else _array(linear.bias)
            for weight, linear in zip(weights, linears, strict=True)
        ]
        weight = np.ascontiguousarray(_interleave(weights) if interleaved else np.concatenate(weights))
        bias = np.ascontiguousarray(_interleave(biases) if interleaved else np.concatenate(biases))
        self._library.decoder_matrix(
            self._pointer, layer, MATRICES.index(name), _address(weight), *weight.shape, _address(bias)
        )


def _shape(c: GPTConfig, slots: int, rows: int, weights: Weights, threads: int) -> Shape:
    same = ("vocabulary", "context", "layers", "width", "heads", "kv_heads", "head_size", "hidden")
    return Shape(
        **{name: getattr(c, name) for name in same},
        norm=NORMS[c.norm],
        after=AFTER[c.mlp],
        learned=c.positions == "learned",
        rope=c.positions == "rope",
        qk_norm=c.qk_norm,
        form=FORMS[weights],
        slots=slots,
        rows=rows,
        threads=threads,
        eps=c.norm_eps,
    )


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _address(array: NDArray[np.float32]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _interleave(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Blocks of PANEL rows of each array in turn; rows of zeros fill up the last."""
    rows, rest = len(arrays[0]), arrays[0].shape[1:]
    full = -(-rows // PANEL) * PANEL
    filled = [np.concatenate((a, np.zeros((full - rows, *rest), np.float32))) for a in arrays]
    return np.stack([a.reshape(-1, PANEL, *rest) for a in filled], axis=1).reshape(-1, *rest)
