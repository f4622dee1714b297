"""What a GGUF file holds, read within its bounds.

The reader of the package gguf trusts every length in a file, so a damaged one can ask it for all memory there is. The
types of numbers and the ways back from quantised weights are the package's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import InputError, one_line, short

VERSIONS = (2, 3)
# By the number of a value's type: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
STRING, ARRAY = 8, 9
MOST_AXES = 4


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        name: what the file calls it.
        kind: the number of its type.
        shape: its axes, the slowest first, as in torch.
        data: its bytes, of which nothing is read yet.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def read(self) -> NDArray[np.float32]:
        """The tensor in float32.

        Raises:
            InputError: it is of a type that cannot be read.
        """
        import gguf

        kind = gguf.GGMLQuantizationType(self.kind)
        try:
            with np.errstate(all="ignore"):  # A damaged scale may be no number.
                array = gguf.quants.dequantize(self.data.reshape(*self.shape[:-1], -1), kind)
        except (NotImplementedError, ValueError) as error:
            raise InputError(f"The tensor {self.name} is of the type {kind.name}, which cannot be read.") from error
        return np.array(array, dtype=np.float32).reshape(self.shape)


def read(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """A file's fields and its tensors, by name; arrays of numbers stay NumPy's.

    Raises:
        InputError: the file is no GGUF that can be read, or is damaged.
    """
    try:
        cursor = _Cursor(np.memmap(path, np.uint8, "r"))
        return _read(cursor)
    except (InputError, OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as GGUF: {one_line(error)}.") from error


def _read(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    if cursor.take(4).tobytes() != b"GGUF":
        raise InputError("It does not begin with GGUF.")
    if (version := cursor.number("<u4")) not in VERSIONS:
        raise InputError(f"It is of version {version}, or of a machine with the other order of bytes.")
    tensors, count = cursor.number("<u8"), cursor.number("<u8")
    fields: dict[str, Any] = {}
    for _ in range(count):
        name = cursor.string()
        if name in fields:
            raise InputError(f"It has the field {short(name)} twice.")
        fields[name] = cursor.value(cursor.number("<u4"))
    described = [_describe(cursor) for _ in range(tensors)]
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise InputError(f"It has general.alignment {short(alignment)}, which is no power of two.")
    start = -(-cursor.at // alignment) * alignment
    return fields, _place(cursor.data, start, alignment, described)


def _describe(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    """A tensor's name, type, shape and offset."""
    name, axes = cursor.string(), cursor.number("<u4")
    if not 1 <= axes <= MOST_AXES:
        raise InputError(f"Its tensor {short(name)} has {axes} axes, not 1 to {MOST_AXES}.")
    shape = tuple(cursor.number("<u8") for _ in range(axes))
    return name, cursor.number("<u4"), shape[::-1], cursor.number("<u8")


def _place(
    data: NDArray[np.uint8], start: int, alignment: int, described: list[tuple[str, int, tuple[int, ...], int]]
) -> dict[str, StoredTensor]:
    """The tensors, each with bytes of its own."""
    import gguf

    sizes = {int(kind): size for kind, size in gguf.constants.GGML_QUANT_SIZES.items()}
    tensors: dict[str, StoredTensor] = {}
    end = 0
    for name, kind, shape, offset in sorted(described, key=lambda one: one[3]):
        if name in tensors:
            raise InputError(f"It has the tensor {short(name)} twice.")
        if kind not in sizes:
            raise InputError(f"Its tensor {short(name)} is of the unknown type {kind}.")
        block, block_bytes = sizes[kind]
        if 0 in shape or shape[-1] % block:
            raise InputError(f"Its tensor {short(name)} of the shape {short(shape)} does not fill blocks of {block}.")
        bytes_ = math.prod(shape) // block * block_bytes
        if offset % alignment or offset < end or start + offset + bytes_ > len(data):
            raise InputError(f"Its tensor {short(name)} does not lie in a place of its own inside the file.")
        end = offset + bytes_
        tensors[name] = StoredTensor(name, kind, shape, data[start + offset : start + end])
    return tensors


class _Cursor:
    """A place in a file's bytes, which never goes beyond their end."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> NDArray[np.uint8]:
        if size > len(self.data) - self.at:
            raise InputError(f"It ends in the middle: {size:,} bytes are said to follow byte {self.at:,}.")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, kind: str) -> Any:
        return self.take(np.dtype(kind).itemsize).view(kind)[0].item()

    def string(self) -> str:
        return self.take(self.number("<u8")).tobytes().decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind != ARRAY:
            raise InputError(f"It has a value of the unknown type {kind}.")
        kind, count = self.number("<u4"), self.number("<u8")
        if kind == STRING:
            return [self.string() for _ in range(count)]
        if kind not in SCALARS:
            raise InputError(f"It has an array of the type {kind}, which is not known.")
        return self.take(count * np.dtype(SCALARS[kind]).itemsize).view(SCALARS[kind])
