from collections.abc import Iterator

import pytest
import torch

from tests.evaluation.cohorts import Fitted, draw_cohort, fit_on


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Keep products of a few rows from being spread over threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A cohort whose label is a tint and nothing else, and a run on it."""
    folder = tmp_path_factory.mktemp("tinted")
    return fit_on(draw_cohort(folder / "cohort", label_is="tint"), folder)
