import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aml_mil.evaluation import bootstrap
from aml_mil.evaluation.bootstrap import (
    MACRO,
    bca_interval,
    bootstrap_intervals,
    resample,
    weighted_metrics,
)
from tests.evaluation.simulated import simulate, simulate_binormal


def test_patients_are_drawn_within_fold_and_class() -> None:
    scores = simulate((25, 15))
    drawn = resample(scores.targets, scores.folds, num_resamples=50).drawn
    for fold, rows in scores.fold_rows.items():
        for target in (0, 1):
            stratum = rows[scores.targets[rows] == target]
            assert (drawn[:, stratum].sum(axis=1) == len(stratum)).all(), (fold, target)
    assert (drawn == 0).any()


def test_the_estimate_is_the_mean_over_folds_of_the_averaged_seeds() -> None:
    scores = simulate((60, 45), separation=0.8)
    expected = np.mean(
        [
            roc_auc_score(scores.targets[rows] == 1, scores.probabilities.mean(0)[rows, 1])
            for rows in scores.fold_rows.values()
        ]
    )
    found = bootstrap_intervals(scores, num_resamples=50)["roc_auc"]["B"]
    assert found.estimate == pytest.approx(expected, abs=1e-12)


def test_an_external_cohort_is_one_fold() -> None:
    scores = simulate((25, 15), num_folds=1)
    pooled = roc_auc_score(scores.targets == 1, scores.probabilities.mean(0)[:, 1])
    found = bootstrap_intervals(scores, num_resamples=50)["roc_auc"]["B"]
    assert found.estimate == pytest.approx(pooled, abs=1e-12)


def test_offsets_between_the_heads_of_folds_do_not_count() -> None:
    rng = np.random.default_rng(0)
    scores = simulate_binormal(40, 40, auc=0.9, num_folds=5, rng=rng)
    ones = np.ones((1, 80))
    shifted = scores.probabilities.copy()
    odds = shifted[..., 1] / shifted[..., 0] * np.exp(4.0 * (scores.folds == 2))
    shifted[..., 1], shifted[..., 0] = odds / (1 + odds), 1 / (1 + odds)
    moved = bootstrap.PatientScores(
        classes=scores.classes,
        patient_ids=scores.patient_ids,
        targets=scores.targets,
        folds=scores.folds,
        seeds=scores.seeds,
        probabilities=shifted,
    )
    before, after = weighted_metrics(scores, ones), weighted_metrics(moved, ones)
    np.testing.assert_allclose(before["roc_auc"], after["roc_auc"], atol=1e-12)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = simulate()
    assert bootstrap_intervals(scores, num_resamples=100) == bootstrap_intervals(
        scores, num_resamples=100
    )


def test_perfect_predictions_do_not_get_an_interval_without_width() -> None:
    scores = simulate((20, 10), separation=50.0)
    found = bootstrap_intervals(scores, num_resamples=100)["roc_auc"][MACRO]
    assert found.high == 1.0
    # 10 of 10 by Clopper and Pearson.
    assert found.low == pytest.approx(0.6915, abs=1e-4)


def test_where_resampling_is_blind_a_figure_gets_no_interval_or_that_of_a_share() -> None:
    scores = simulate((20, 10))
    scores.probabilities[:] = [0.6, 0.4]
    found = bootstrap_intervals(scores, num_resamples=100)
    assert found["recall"]["B"].estimate == 0.0
    assert found["recall"]["B"].high == pytest.approx(1 - 0.6915, abs=1e-4)
    half = found["roc_auc"][MACRO]
    assert (half.estimate, half.low, half.high) == (0.5, None, None)


def test_bca_agrees_with_scipy_on_a_mean() -> None:
    from scipy.stats import bootstrap as scipy_bootstrap

    data = np.random.default_rng(1).exponential(size=40)
    theirs = scipy_bootstrap(
        (data,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    draws = resample(np.zeros(40, int), np.zeros(40, int), num_resamples=20_000, seed=3)
    left_out = draws.left_out @ data / 40
    influence = bootstrap.jackknife_influence(left_out, np.zeros(40, int), np.zeros(40, int))
    ours = bca_interval(data.mean(), draws.drawn @ data / 40, influence)
    assert ours.low == pytest.approx(theirs.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.high, abs=0.015)


def test_a_class_missing_in_a_fold_is_left_out_there() -> None:
    scores = simulate((20, 12), num_folds=4)
    folds = scores.folds.copy()
    folds[(scores.targets == 1) & (folds == 2)] = 3
    moved = bootstrap.PatientScores(
        classes=scores.classes,
        patient_ids=scores.patient_ids,
        targets=scores.targets,
        folds=folds,
        seeds=scores.seeds,
        probabilities=scores.probabilities,
    )
    expected = np.mean(
        [
            roc_auc_score(moved.targets[rows] == 1, moved.averaged[rows, 1])
            for fold, rows in moved.fold_rows.items()
            if fold != 2
        ]
    )
    found = bootstrap_intervals(moved, num_resamples=50)["roc_auc"]["B"]
    assert found.estimate == pytest.approx(expected, abs=1e-12)
    assert found.low is not None


def coverage(num_positive: int, num_folds: int, *, num_cohorts: int, num_resamples: int) -> float:
    rng = np.random.default_rng(num_positive + num_folds)
    hits = 0
    for _ in range(num_cohorts):
        scores = simulate_binormal(
            num_positive, 80 - num_positive, auc=0.9, num_folds=num_folds, rng=rng
        )
        draws = resample(scores.targets, scores.folds, num_resamples=num_resamples, seed=1)
        values = [
            bootstrap.fold_mean("roc_auc", scores, weights)[:, 1]
            for weights in (np.ones((1, 80)), draws.drawn, draws.left_out)
        ]
        influence = bootstrap.jackknife_influence(values[2], scores.targets, scores.folds)
        hits += 0.9 in bca_interval(float(values[0][0]), values[1], influence)
    return hits / num_cohorts


@pytest.mark.parametrize("num_folds", [1, 5])
def test_intervals_cover_the_truth_about_as_often_as_they_say(num_folds: int) -> None:
    assert 0.90 <= coverage(40, num_folds, num_cohorts=150, num_resamples=300) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("num_folds", [1, 5])
@pytest.mark.parametrize("num_positive", [22, 40])
def test_95_percent_intervals_cover_92_to_97_percent(num_positive: int, num_folds: int) -> None:
    covered = coverage(num_positive, num_folds, num_cohorts=2000, num_resamples=1000)
    assert 0.92 <= covered <= 0.97
