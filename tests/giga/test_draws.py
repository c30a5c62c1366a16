"""Draws: fair, within the patient, and the same whenever they are asked for."""

import numpy as np
import pytest

from aml_mil.giga.draws import (
    MAX_SCALE,
    MIN_SCALE,
    draw_for_embedding,
    draw_pair,
    draw_patients,
    draw_turns,
    gather_pair,
)
from tests.giga.cases import bags_of, toy_patients

SIZES = np.array([3, 50, 8, 12])
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])


def pair(step=0, cells=8, num_views=3, patients=(3, 0, 1, 2)):
    return draw_pair(
        np.array(patients), OFFSETS, num_views=num_views, cells=cells, seed=0, step=step
    )


def test_no_patient_comes_twice_in_an_epoch_and_the_next_goes_on_otherwise():
    steps = [draw_patients(10, batch_size=3, seed=0, step=step) for step in range(6)]
    for epoch in (steps[:3], steps[3:]):
        assert len(set(np.concatenate(epoch))) == 9
    assert not np.array_equal(steps[0], steps[3])


def test_a_draw_depends_on_its_step_alone():
    np.testing.assert_array_equal(pair(step=7).cells, pair(step=7).cells)
    assert not np.array_equal(pair(step=7).cells, pair(step=8).cells)


def test_the_two_views_show_different_augmentations_where_there_are_several():
    seen = set()
    for step in range(50):
        views = pair(step).views
        assert (views[0] != views[1]).all()
        seen |= set(map(tuple, views.T))
    assert seen == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert not pair(num_views=1).views.any()


def test_cells_are_the_patients_own_and_each_comes_once_where_there_are_enough():
    draw = pair(cells=8)
    for row, patient in zip(draw.cells[0], (3, 0, 1, 2), strict=True):
        assert ((row >= OFFSETS[patient]) & (row < OFFSETS[patient + 1])).all()
        assert len(set(row)) == (8 if SIZES[patient] >= 8 else len(set(row)))
    assert not np.array_equal(draw.cells[0, 2], draw.cells[1, 2])


@pytest.mark.parametrize("cells", [2, 5])
def test_every_cell_is_as_likely_as_any_other(cells):
    counts = np.zeros(OFFSETS[-1])
    for step in range(600):
        np.add.at(counts, pair(step, cells=cells).cells.ravel(), 1)
    for patient, size in enumerate(SIZES):
        own = counts[OFFSETS[patient] : OFFSETS[patient + 1]]
        expected = 2 * 600 * cells / size
        assert np.abs(own - expected).max() < 5 * np.sqrt(expected)


def test_a_share_of_a_step_is_that_of_the_whole():
    whole, part = pair(), pair().take(slice(1, 3))
    for first, second in zip(whole, part, strict=True):
        np.testing.assert_array_equal(first[:, 1:3], second)


def test_turns_flip_rotate_and_scale_each_axis():
    turns = draw_turns(np.random.default_rng(0), 2000).astype(np.float64)
    scales = np.linalg.svd(turns, compute_uv=False)
    assert scales.min() >= MIN_SCALE - 1e-6
    assert scales.max() <= MAX_SCALE + 1e-6
    assert (scales[:, 0] - scales[:, 1]).max() > 0.4, "anisotropic"
    assert 0.45 < (np.linalg.det(turns) > 0).mean() < 0.55, "mirrored half the time"
    angles = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    assert np.abs(np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0] - 250).max() < 70


def test_gathered_features_are_those_of_the_view_and_places_turn_about_their_centre(tmp_path):
    bags = bags_of(toy_patients(tmp_path / "a.zarr", located=True))
    draw = draw_pair(np.array([2, 5]), bags.offsets, num_views=3, cells=4, seed=0, step=0)
    sets = gather_pair(bags, draw)
    cells, views, turns = (np.concatenate(part) for part in draw)
    for row in range(4):
        expected = bags.table[views[row] * bags.num_cells + cells[row]]
        np.testing.assert_array_equal(sets.features[row], expected)
        places = bags.places[cells[row]].numpy()
        expected = (places - places.mean(0)) @ turns[row].T
        np.testing.assert_allclose(sets.places[row], expected, atol=1e-4)


def test_an_embeddings_draws_are_the_patients_own_business():
    settings = {"num_cells": 40, "cells": 6, "num_draws": 5}
    first = draw_for_embedding("A", seed=0, **settings)
    np.testing.assert_array_equal(first, draw_for_embedding("A", seed=0, **settings))
    assert not np.array_equal(first, draw_for_embedding("B", seed=0, **settings))
    assert not np.array_equal(first, draw_for_embedding("A", seed=1, **settings))
    assert all(len(set(row)) == 6 for row in first)
