"""One thread for tests of small products, which threads would only wait for each other over."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    """Keep products of a few rows from being spread over threads that wait for each other."""
    with one_thread():
        yield
