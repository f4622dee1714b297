"""One server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from serve.running import ALPHABET, ChatBytes, Running, running, served

from quoth.text.tokenizer import Bytes, Characters


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with running([served("base", Characters(ALPHABET)), served("chat", ChatBytes()), served("bytes", Bytes())]) as one:
        yield one
        assert one.is_idle()
    torch.set_num_threads(threads)
