"""What all tests share: fixed seeds, a cache folder of their own, and one thread where results must be exact."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from serve.browsing import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("quoth", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("quoth")

# A script that starts tests in the background has them ignore Ctrl-C, and so would all commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUOTH_CACHE", os.fspath(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are taken in one order, so equal computations give equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def usual_numbers():
    """Choosing the hardware makes tiny numbers zero; the next test counts on them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()
