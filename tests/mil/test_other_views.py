"""Heads learn from flips; other stored augmentations are the whole patient's, and left alone."""

import logging

import pytest

from aml_mil.mil import fit
from tests.mil.cases import small_config, write_store

SHARED = ("identity", "shared1", "shared2")


def predictions(store, out_dir):
    for _ in fit(store, out_dir=out_dir, config=small_config(num_folds=3, seeds=1, epochs=3)):
        pass
    return (out_dir / "predictions.csv").read_text()


@pytest.mark.parametrize("views", [SHARED, ("3", "identity")[::-1]])
def test_heads_on_shared_views_are_those_on_the_untouched_view_and_that_is_said(
    tmp_path, caplog, views
):
    augmented = write_store(tmp_path / "a.zarr", num_bags=15, views=views)
    plain = write_store(tmp_path / "b.zarr", num_bags=15, views=("identity",))
    with caplog.at_level(logging.WARNING):
        found = predictions(augmented, tmp_path / "a")
    assert "the heads train on the untouched view" in caplog.text
    assert found == predictions(plain, tmp_path / "b")


def test_flips_are_drawn_and_nothing_is_said(tmp_path, caplog):
    flips = write_store(tmp_path / "a.zarr", num_bags=15)
    plain = write_store(tmp_path / "b.zarr", num_bags=15, views=("identity",))
    with caplog.at_level(logging.WARNING):
        found = predictions(flips, tmp_path / "a")
    assert "untouched" not in caplog.text
    assert found != predictions(plain, tmp_path / "b")
