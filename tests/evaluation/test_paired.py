import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aml_mil.evaluation import EvaluationError, compare_paired
from aml_mil.evaluation.paired import _folds, _resample, _resampled_auc, mean_fold_auc
from tests.evaluation.simulated import as_predictions, simulate


def _run(separation=1.2, *, seed=0, sizes=(25, 15)):
    return as_predictions(simulate(sizes, separation=separation, seed=seed))


def test_the_auc_is_that_of_the_seeds_mean_averaged_over_folds():
    scores = simulate((20, 15, 10))
    averaged = scores.probabilities.mean(axis=0)
    expected = np.mean(
        [
            roc_auc_score(scores.targets[rows], averaged[rows], multi_class="ovr")
            for rows in scores.fold_rows.values()
        ]
    )
    assert mean_fold_auc(as_predictions(scores)) == pytest.approx(expected)


def test_a_resamples_auc_is_scikit_learns_on_the_patients_drawn():
    (fold, *_) = _folds(_run(sizes=(30, 25, 20))).values()
    fold = dataclasses.replace(fold, probabilities=fold.probabilities.round(1))  # with ties
    counts = _resample(fold.targets, 5, np.random.default_rng(0))
    for drawn, auc in zip(counts, _resampled_auc(fold, counts), strict=True):
        expected = np.mean(
            [
                roc_auc_score(fold.targets == c, fold.probabilities[:, c], sample_weight=drawn)
                for c in range(3)
            ]
        )
        assert auc == pytest.approx(expected)


def test_patients_are_resampled_within_their_class():
    targets = np.array([0] * 7 + [1] * 3)
    counts = _resample(targets, 200, np.random.default_rng(0))
    assert (counts[:, :7].sum(1) == 7).all()
    assert (counts[:, 7:].sum(1) == 3).all()
    assert len(np.unique(counts, axis=0)) > 100


def test_a_run_does_not_differ_from_itself():
    result = compare_paired(_run(), _run())
    assert (result.difference, result.low, result.high) == (0, 0, 0)
    assert not result.is_clear


def test_a_clear_difference_is_seen_with_its_sign():
    better, worse = _run(3.0), _run(0.0)
    result = compare_paired(better, worse)
    assert result.is_clear
    assert result.low < result.difference < result.high
    assert result.difference == pytest.approx(mean_fold_auc(better) - mean_fold_auc(worse))
    assert compare_paired(worse, better).difference == -result.difference


def test_the_interval_is_repeatable():
    assert compare_paired(_run(2.0), _run(1.0)) == compare_paired(_run(2.0), _run(1.0))


def test_runs_of_other_patients_folds_or_classes_are_refused():
    run = _run()
    fewer = run.take([i for i, p in enumerate(run.patient_ids) if p != "p003"])
    with pytest.raises(EvaluationError, match=r"fold 3 differs in p003 \(1\)"):
        compare_paired(run, fewer)
    with pytest.raises(EvaluationError, match="the same folds, got 5 and 4"):
        compare_paired(run, run.take(np.flatnonzero(run.folds != 4).tolist()))
    with pytest.raises(EvaluationError, match="the same classes, got A, B and A, B, C"):
        compare_paired(run, _run(sizes=(20, 10, 10)))
    swapped = as_predictions(simulate((15, 25)))
    with pytest.raises(EvaluationError, match="different labels"):
        compare_paired(run, _with_folds_of(swapped, run))


def _with_folds_of(predictions, other):

    return dataclasses.replace(predictions, folds=other.folds)
