"""Arrays for a page as one block of bytes, which a browser reads without parsing numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(facts: Mapping[str, Any], **arrays: NDArray[Any]) -> bytes:
    """Facts as JSON and arrays as their bytes: the head's length as four bytes, the head, and then the arrays.

    The head is a JSON object: `facts`, and in `arrays` the type ("u1", "f4", …), shape and place of each array. Numbers
    are little-endian, and places are multiples of 8 and counted from the end of the head, which ends at one too.

    >>> pack({"a": 1}, x=np.zeros(3, np.uint8))[4:].partition(b"}}")[0]
    b'{"facts": {"a": 1}, "arrays": {"x": ["u1", [3], 0]'
    """
    places: dict[str, Any] = {}
    blocks: list[bytes] = []
    place = 0
    for name, array in arrays.items():
        block = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        places[name] = [array.dtype.str[1:], list(array.shape), place]
        blocks.append(block + bytes(-len(block) % 8))
        place += len(blocks[-1])
    head = json.dumps({"facts": facts, "arrays": places}).encode()
    head += b" " * (-(len(head) + 4) % 8)
    return b"".join([len(head).to_bytes(4, "little"), head, *blocks])
