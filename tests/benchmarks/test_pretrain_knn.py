"""Neighbours among cells: what is gained over a random encoder, by cells and by patients."""

import numpy as np
import pytest

from benchmarks.pretrain_knn import paired_gain


def test_the_interval_encloses_the_difference_and_is_zero_for_equals() -> None:
    generator = np.random.default_rng(0)
    patients = [f"p{i % 12}" for i in range(600)]
    correct, baseline = generator.random(600) < 0.8, generator.random(600) < 0.6
    gain = paired_gain(correct, baseline, patients, weights=np.ones(600), num_draws=500)
    assert gain.mean == pytest.approx(correct.mean() - baseline.mean())
    assert 0 < gain.low < gain.mean < gain.high < 0.4
    same = paired_gain(correct, correct, patients, weights=np.ones(600), num_draws=50)
    assert same == (0.0, 0.0, 0.0)


def test_one_patient_of_many_cells_does_not_decide_where_patients_count_alike() -> None:
    patients = ["many"] * 90 + ["few"] * 10
    correct = np.array([False] * 90 + [True] * 10)
    baseline = ~correct
    by_cells = paired_gain(correct, baseline, patients, weights=np.ones(100), num_draws=10)
    alike = np.array([1 / 90] * 90 + [1 / 10] * 10)
    by_patients = paired_gain(correct, baseline, patients, weights=alike, num_draws=10)
    assert by_cells.mean == pytest.approx(-0.8)
    assert by_patients.mean == pytest.approx(0)
