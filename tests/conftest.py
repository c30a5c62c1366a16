"""Fixtures of all tests, and one thread for them and for the processes they start.

Threads of small products only wait for each other, and sums depend on how many there are.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.played_gpu import PlayedGpu

# Before torch is imported, and Numba, which sets the threads of all.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator["PlayedGpu"]:
    """A GPU that is played."""
    from tests.played_gpu import played_gpu  # brings torch, which few tests need

    with played_gpu(monkeypatch) as gpu:
        yield gpu


@pytest.fixture(params=["played", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> None:
    """``cuda`` is a GPU: played everywhere, and the machine's own among the tests marked so."""
    if request.param == "played":
        request.getfixturevalue("played")
