"""Fixtures of the embedding tests."""

import pytest

from tests.embedding.drawing import draw_cohort, tiny_encoder


@pytest.fixture(scope="session")
def encoder():
    return tiny_encoder()


@pytest.fixture
def cohort_dir(tmp_path):
    return draw_cohort(tmp_path / "cohort")


@pytest.fixture(params=["zarr", "h5store"])
def store_path(request, tmp_path):
    return tmp_path / f"features.{request.param}"
