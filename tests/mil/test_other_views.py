"""Heads learn from flips cell by cell, and from a patient's augmentations bag by bag."""

import logging

import numpy as np
import pytest

from aml_mil.mil import fit
from aml_mil.mil.engine import Training
from aml_mil.mil.inputs import load_inputs
from tests.mil.cases import SMALL_SHAPE, small_config, toy_bags, toy_replicates, write_store

SHARED = ("identity", "shared1", "shared2")
COLOUR = ("identity", "colour1", "colour2")
UNKNOWN = ("identity", "3")


def predictions(store, out_dir):
    for _ in fit(store, out_dir=out_dir, config=small_config(num_folds=3, seeds=1, epochs=3)):
        pass
    return (out_dir / "predictions.csv").read_text()


def test_heads_on_unknown_views_are_those_on_the_untouched_view_and_that_is_said(tmp_path, caplog):
    unknown = write_store(tmp_path / "a.zarr", num_bags=15, views=UNKNOWN)
    plain = write_store(tmp_path / "b.zarr", num_bags=15, views=("identity",))
    with caplog.at_level(logging.WARNING):
        found = predictions(unknown, tmp_path / "a")
    assert "the heads train on the untouched view" in caplog.text
    assert found == predictions(plain, tmp_path / "b")


@pytest.mark.parametrize("views", [SHARED, COLOUR], ids=["shared", "colour"])
def test_augmentations_of_a_patient_are_drawn_for_a_bag_as_a_whole(tmp_path, caplog, views):
    augmented = write_store(tmp_path / "a.zarr", num_bags=15, views=views)
    by_cell = write_store(tmp_path / "b.zarr", num_bags=15, views=("identity", "hflip", "vflip"))
    plain = write_store(tmp_path / "c.zarr", num_bags=15, views=("identity",))
    with caplog.at_level(logging.WARNING):
        found = predictions(augmented, tmp_path / "a")
    assert "untouched" not in caplog.text
    assert found not in (predictions(by_cell, tmp_path / "b"), predictions(plain, tmp_path / "c"))
    assert [load_inputs([[path]])[0].one_view_a_bag for path in (augmented, by_cell)] == [
        True,
        False,
    ]


def test_a_training_bag_is_read_from_one_view_and_a_validation_bag_untouched():
    bags = toy_bags()
    bags.one_view_a_bag = True
    replicates = toy_replicates(bags)
    training = Training(replicates, bags, shape=SMALL_SHAPE, config=small_config())
    num_cells = int(bags.offsets[-1])
    drawn = training._draw(replicates[0])
    views = [part // num_cells for part in np.split(drawn.rows, np.cumsum(drawn.sizes)[:-1])]
    assert all(len(set(of_bag)) == 1 for of_bag in views)
    assert len({of_bag[0] for of_bag in views}) > 1
    assert bags.whole(replicates[0].validation, store=0).rows.max() < num_cells


def test_flips_are_drawn_and_nothing_is_said(tmp_path, caplog):
    flips = write_store(tmp_path / "a.zarr", num_bags=15)
    plain = write_store(tmp_path / "b.zarr", num_bags=15, views=("identity",))
    with caplog.at_level(logging.WARNING):
        found = predictions(flips, tmp_path / "a")
    assert "untouched" not in caplog.text
    assert found != predictions(plain, tmp_path / "b")
