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

from quoth.generate.decoder import Batch, refuse_beyond_memory, refuse_other_shape, weight_bytes, windowed
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
ACTIVATIONS = {"relu": 2, "gelu": 3, "swiglu": 4}
# As transformer.h numbers them.
VECTORS = [
    *("attention_norm", "attention_norm_bias", "query_norm", "key_norm", "mlp_norm", "mlp_norm_bias"),
    *("embedding", "positions", "cos", "sin"),
]
MATRICES = ("qkv", "out", "up", "down")
# What each function takes after the decoder.
FUNCTIONS: dict[str, list[Any]] = {
    "threads": [ctypes.c_int],
    "vector": [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64],
    "matrix": [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p],
    "step": [ctypes.c_int, *3 * [ctypes.c_void_p], ctypes.c_char_p, ctypes.c_void_p],
    "copy": [ctypes.c_int, ctypes.c_int, ctypes.c_int],
    "draw": [ctypes.c_int, *4 * [ctypes.c_void_p]],
}
# Numbers of a vector, and outputs that lie together in a matrix.
LANES, PANEL = 16, 32


class Shape(ctypes.Structure):
    """What transformer.h calls Shape."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("vocabulary", "context", "layers", "width", "heads", "kv_heads")),
        *(
            (name, ctypes.c_int32)
            for name in ("head_size", "hidden", "norm", "activation", "learned", "rope", "qk_norm")
        ),
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
    why_not = ""

    def __init__(
        self,
        model: GPT,
        *,
        slots: int = 1,
        rows: int = 128,
        weights: Weights = "float32",
        threads: int = 0,
        context: int = 0,
    ) -> None:
        c = windowed(model.config, context)
        self.slots, self.rows, self.keep = slots, max(rows, slots), max(1, c.context // 2)
        self.vocabulary, self.config = c.vocabulary, model.config
        refuse_beyond_memory(self.memory_bytes(c, slots, self.rows, weights), "cpu", slots, c.context)
        self._library, self._pointer = library(), ctypes.c_void_p()
        for name, takes in FUNCTIONS.items():
            function = getattr(self._library, f"decoder_{name}")
            function.argtypes, function.restype = [ctypes.c_void_p, *takes], ctypes.c_char_p
        self._library.decoder_new.restype = ctypes.c_char_p
        shape = _shape(c, slots, self.rows, weights, max(1, threads))
        if said := self._library.decoder_new(ctypes.byref(shape), ctypes.byref(self._pointer)):
            needs = f"{slots} windows of {c.context:,} tokens and {max(1, threads)} threads"
            raise InputError(f"The decoder for {needs} cannot be had here: {said.decode()}.")
        # At the interpreter's end a thread may still be in a step.
        weakref.finalize(self, self._library.decoder_free, self._pointer).atexit = False
        self._load(model)
        numbers = weight_bytes(model) // model.embed.weight.element_size()
        self.weight_bytes = int(numbers * BYTES[weights])
        self.threads = threads or self._fastest()

    @staticmethod
    def memory_bytes(c: GPTConfig, slots: int, rows: int, weights: Weights = "float32") -> int:
        """How many bytes a decoder of this shape takes: its cache, its weights, and a step's rows."""
        values = -(-c.head_size // LANES) * LANES
        cache = 4 * c.layers * slots * c.kv_heads * -(-c.context // LANES) * LANES * (c.head_size + values)
        qkv = (c.heads + 2 * c.kv_heads) * c.head_size
        up = c.hidden * (2 if c.mlp == "swiglu" else 1)
        layer = c.width * (qkv + c.heads * c.head_size + up + c.hidden)
        packed = int(BYTES[weights] * (c.layers * layer + c.vocabulary * c.width))
        tables = 4 * c.width * (c.vocabulary + (c.context if c.positions == "learned" else 0))
        row = 2 * c.width + max(qkv, c.vocabulary) + c.hidden + c.heads * c.head_size
        return cache + packed + tables + 4 * rows * row

    def reload(self, model: GPT) -> None:
        """Take new weights of the same shape, in the place of the old ones; see `Decoder`."""
        refuse_other_shape(self.config, model)
        if not can_decode(model):
            raise InputError("The compiled decoder takes the weights of a plain float32 or 16-bit GPT on a CPU.")
        self._load(model)

    def step(self, batch: Batch) -> Tensor:
        """Take in rows; the logits (answers, V) of those that are `wanted`, in order."""
        n, wanted, table = len(batch), bytes(batch.wanted), array("i", batch.token + batch.slot + batch.position)
        logit_RV = torch.empty(sum(wanted), self.vocabulary)
        at, _ = table.buffer_info()
        self._call("step", n, at, at + 4 * n, at + 8 * n, wanted, logit_RV.data_ptr())
        return logit_RV

    def copy(self, slot: int, to: int, count: int) -> None:
        """Let slot `to` have read what `slot` has read; see `Decoder`."""
        self._call("copy", slot, to, count)

    def draw(
        self, logit_RV: Tensor, rows: Sequence[int], samplings: Sequence[Sampling], uniforms: Sequence[float]
    ) -> list[int]:
        parameters, row, token = array("d"), array("i", rows), array("i", rows)
        for s, u in zip(samplings, uniforms, strict=True):
            parameters.extend((s.temperature, min(s.top_k, self.vocabulary), s.top_p, s.min_p, u))
        given, drawn = (logit_RV.data_ptr(), *(a.buffer_info()[0] for a in (row, parameters))), token.buffer_info()[0]
        self._call("draw", len(rows), *given, drawn)
        return token.tolist()

    def _call(self, name: str, *arguments: Any) -> None:
        """Call one of the compiled functions; what it says of a failure is raised."""
        if said := getattr(self._library, f"decoder_{name}")(self._pointer, *arguments):
            raise InputError(f"The compiled decoder failed: {said.decode(errors='replace')}.")

    def _fastest(self) -> int:
        """How many threads take the shortest time for a token; more have to be clearly faster."""
        row, best, chosen = Batch([0], [0], [0], [True]), float("inf"), 1
        for threads in sorted({1, max(1, cores() // 2), cores()}):
            self._call("threads", threads)
            took = fastest(lambda: self.step(row), "cpu", seconds=0.02)
            if took < 0.9 * best:
                best, chosen = took, threads
        self._call("threads", chosen)
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
            self._matrix(layer, "qkv", [attention.query, attention.key, attention.value])
            self._matrix(layer, "out", [attention.out])
            up = [mlp.gate, mlp.up] if isinstance(mlp, SwiGLU) else [mlp.up]
            self._matrix(layer, "up", up, interleaved=isinstance(mlp, SwiGLU))
            self._matrix(layer, "down", [mlp.down])
        self._norm(last, "attention_norm", model.norm)
        self._vector(last, "embedding", model.embed.weight)
        if c.positions == "learned":
            self._vector(last, "positions", positions.table.weight)
        if c.positions == "rope":
            self._vector(last, "cos", positions.cos_TK)
            self._vector(last, "sin", positions.sin_TK)
        self._matrix(last, "qkv", [model.head])

    def _norm(self, layer: int, name: str, norm: nn.Module) -> None:
        if (weight := getattr(norm, "weight", None)) is not None:
            self._vector(layer, name, weight)
        if (bias := getattr(norm, "bias", None)) is not None:
            self._vector(layer, f"{name}_bias", bias)

    def _vector(self, layer: int, name: str, values: Tensor) -> None:
        array = _array(values)
        self._call("vector", layer, VECTORS.index(name), array.ctypes.data, array.size)

    def _matrix(self, layer: int, name: str, linears: Sequence[nn.Linear], *, interleaved: bool = False) -> None:
        """Linear layers of one input as one matrix; interleaved, a panel of each in chunk."""
        weights = [_array(linear.weight) for linear in linears]
        biases = [
            np.zeros(len(weight), np.float32) if linear.bias is None else _array(linear.bias)
            for weight, linear in zip(weights, linears, strict=True)
        ]
        weight = np.ascontiguousarray(_interleave(weights) if interleaved else np.concatenate(weights))
        bias = np.ascontiguousarray(_interleave(biases) if interleaved else np.concatenate(biases))
        self._call("matrix", layer, MATRICES.index(name), weight.ctypes.data, *weight.shape, bias.ctypes.data)


def _shape(c: GPTConfig, slots: int, rows: int, weights: Weights, threads: int) -> Shape:
    same = ("vocabulary", "context", "layers", "width", "heads", "kv_heads", "head_size", "hidden")
    numbers = {name: getattr(c, name) for name in same} | {"slots": slots, "rows": rows, "threads": threads}
    if wrong := [f"{name} of {value:,}" for name, value in numbers.items() if value >= 2**31]:
        raise InputError(f"The compiled decoder takes numbers below 2^31, not {' and '.join(wrong)}.")
    return Shape(
        **numbers,
        norm=NORMS[c.norm],
        activation=ACTIVATIONS[c.mlp],
        learned=c.positions == "learned",
        rope=c.positions == "rope",
        qk_norm=c.qk_norm,
        form=FORMS[weights],
        eps=c.norm_eps,
    )


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _interleave(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Blocks of PANEL rows of each array in chunk; rows of zeros fill up the last."""
    rows, rest = len(arrays[0]), arrays[0].shape[1:]
    full = -(-rows // PANEL) * PANEL
    filled = [np.concatenate((a, np.zeros((full - rows, *rest), np.float32))) for a in arrays]
    return np.stack([a.reshape(-1, PANEL, *rest) for a in filled], axis=1).reshape(-1, *rest)
