"""Fixtures of all tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.played_gpu import PlayedGpu


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
