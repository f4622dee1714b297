"""One server, one browser and one thread for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from serve.running import ALPHABET, ChatBytes, Running, running, served

from quoth.text.tokenizer import Bytes, Characters


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def server(one_thread: None) -> Iterator[Running]:
    with running([served("base", Characters(ALPHABET)), served("chat", ChatBytes()), served("bytes", Bytes())]) as one:
        yield one
        assert one.is_idle()
