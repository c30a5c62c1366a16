import numpy as np

from benchmarks.pretrain_knn import paired_interval


def test_the_interval_encloses_the_difference_and_is_zero_for_equals() -> None:
    generator = np.random.default_rng(0)
    patients = [f"p{i % 12}" for i in range(600)]
    correct, baseline = generator.random(600) < 0.8, generator.random(600) < 0.6
    low, high = paired_interval(correct, baseline, patients, num_draws=500, seed=0)
    assert 0 < low < correct.mean() - baseline.mean() < high < 0.4
    assert paired_interval(correct, correct, patients, num_draws=50, seed=0) == (0.0, 0.0)
