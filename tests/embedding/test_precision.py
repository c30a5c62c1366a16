"""Stored features beside those of torch in fp32."""

import numpy as np
import pytest
import torch

from aml_mil.embedding.precision import PrecisionPass, _cosines
from aml_mil.runtime import has_native_bf16
from tests.embedding.drawing import NUM_CELLS, damage, draw_cell, run, tiny_encoder

NUM_ALL = sum(NUM_CELLS.values())


def test_fp32_features_stored_in_float32_are_the_reference(cohort_dir, store_path, encoder):
    summary = run(cohort_dir, store_path, encoder, dtype="float32", check_precision=1000)
    assert summary.precision.num_cells == NUM_ALL
    assert summary.precision.min_cosine == pytest.approx(1, abs=1e-9)
    assert summary.precision.max_abs_error < 1e-6


def test_rounding_to_float16_is_seen_and_small(cohort_dir, store_path, encoder):
    precision = run(cohort_dir, store_path, encoder, check_precision=5).precision
    assert precision.num_cells == 5
    assert 0.999999 < precision.min_cosine < 1
    assert 0 < precision.max_abs_error < 2e-3


def test_bf16_is_within_its_bounds(cohort_dir, tmp_path, encoder):
    exact = run(cohort_dir, tmp_path / "a.zarr", encoder, check_precision=NUM_ALL).precision
    engine = "auto" if has_native_bf16() else "torch"
    rounded = run(
        cohort_dir,
        tmp_path / "b.zarr",
        encoder,
        precision="bf16",
        engine=engine,
        check_precision=NUM_ALL,
    ).precision
    assert 0.9999 < rounded.min_cosine < exact.min_cosine
    assert exact.max_abs_error < rounded.max_abs_error < 0.05


def test_a_store_of_other_weights_is_found_out(cohort_dir, store_path, encoder):
    other = tiny_encoder(seed=1)
    pretender = type(encoder)(
        **{
            name: getattr(encoder if name == "weights_sha256" else other, name)
            for name in encoder.__dataclass_fields__
        }
    )
    run(cohort_dir, store_path, pretender)
    precision = run(cohort_dir, store_path, encoder, check_precision=3).precision
    assert precision.min_cosine < 0.9


def test_damaged_and_changed_files_are_left_out(cohort_dir, store_path, encoder):
    damage(cohort_dir / "data/APL/AQK/image_2.png")
    run(cohort_dir, store_path, encoder)
    draw_cell(cohort_dir / "data/AML/CTL/image_99.png")
    summary = run(cohort_dir, store_path, encoder, check_precision=1000)
    assert summary.precision.num_cells == NUM_ALL - 1 - NUM_CELLS["CTL"]


def test_nothing_is_compared_unless_asked(cohort_dir, store_path, encoder):
    assert run(cohort_dir, store_path, encoder).precision is None


def test_zero_vectors_are_alike_and_unlike_all_others():
    found = np.array([[0.0, 0], [0, 0], [3, 4]])
    expected = np.array([[0.0, 0], [1, 0], [6, 8]])
    np.testing.assert_allclose(_cosines(found, expected), [1, 0, 1])


def test_the_worst_view_of_a_cell_counts(encoder):
    comparing = PrecisionPass(
        [], store=None, encoder=encoder, device=torch.device("cpu"), num_cells=1
    )
    expected = np.ones((4, 2, 3))
    found = expected.copy()
    found[2, 1] = [1, 1, -1]
    comparing._add(found, expected)
    np.testing.assert_allclose(comparing._cosines, [1, 1 / 3])
    np.testing.assert_allclose(comparing._errors, [0, 2])
