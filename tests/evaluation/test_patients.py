from dataclasses import replace

import numpy as np
import pytest

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.patients import patient_scores
from tests.evaluation.simulated import as_predictions, simulate


def test_test_rows_are_arranged_by_patient_and_seed() -> None:
    scores = simulate()
    predictions = as_predictions(scores)
    shuffled = predictions.take(
        np.random.default_rng(0).permutation(len(predictions.patient_ids)).tolist()
    )
    found = patient_scores(shuffled)
    assert found.patient_ids == scores.patient_ids
    assert found.seeds == scores.seeds
    np.testing.assert_array_equal(found.targets, scores.targets)
    np.testing.assert_array_equal(found.folds, scores.folds)
    np.testing.assert_array_equal(found.probabilities, scores.probabilities)


def test_a_run_without_test_predictions_is_refused() -> None:
    predictions = as_predictions(simulate()).of_role("train")
    with pytest.raises(EvaluationError, match="runs/x holds no test predictions"):
        patient_scores(predictions, where="runs/x")


def test_a_patient_without_one_of_the_seeds_is_named() -> None:
    predictions = as_predictions(simulate())
    with pytest.raises(EvaluationError, match=r"exactly one row for each seed.*p000 \(1 of 40\)"):
        patient_scores(predictions.take(range(1, len(predictions.patient_ids))))


def test_a_patient_tested_in_two_folds_is_named() -> None:
    predictions = as_predictions(simulate())
    folds = predictions.folds.copy()
    folds[3] += 1
    with pytest.raises(EvaluationError, match="two test folds: p003"):
        patient_scores(replace(predictions, folds=folds))


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_rows_that_are_no_distribution_are_named(value: float) -> None:
    predictions = as_predictions(simulate())
    probabilities = predictions.probabilities.copy()
    probabilities[2, 0] = value
    with pytest.raises(EvaluationError, match="do not sum to 1: p002"):
        patient_scores(replace(predictions, probabilities=probabilities))
