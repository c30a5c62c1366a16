import pytest

from tests.evaluation.cohorts import Fitted, draw_cohort, fit_on


@pytest.fixture(scope="session")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A cohort whose label is a tint and nothing else, and a run on it."""
    folder = tmp_path_factory.mktemp("tinted")
    return fit_on(draw_cohort(folder / "cohort", label_is="tint"), folder)
