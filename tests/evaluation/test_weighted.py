import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from aml_mil.evaluation import weighted
from aml_mil.evaluation.scores import ALL_METRICS, score_all

NUM_CLASSES = 3


def draw(seed: int, *, tied: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(NUM_CLASSES, size=40)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), size=40)
    if tied:
        probabilities = np.round(probabilities, 1)
    weights = rng.integers(0, 4, size=(6, 40)).astype(float)
    return targets, probabilities, weights


def sklearn_value(name: str, targets, probabilities, weight, c: int) -> float:
    truth, scores = targets == c, probabilities[:, c]
    called = probabilities.argmax(axis=1) == c
    if name == "roc_auc":
        return roc_auc_score(truth, scores, sample_weight=weight)
    if name == "pr_auc":
        return average_precision_score(truth, scores, sample_weight=weight)
    if name == "brier":
        return brier_score_loss(truth, scores, sample_weight=weight)
    of_name = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    return of_name[name](truth, called, sample_weight=weight, zero_division=0.0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["roc_auc", "pr_auc", "f1", "precision", "recall", "brier"])
def test_weighted_metrics_equal_scikit_learn_with_sample_weights(name: str, tied: bool) -> None:
    targets, probabilities, weights = draw(seed=3, tied=tied)
    found = weighted.WEIGHTED[name](targets, probabilities, weights)
    for b, weight in enumerate(weights):
        for c in range(NUM_CLASSES):
            expected = sklearn_value(name, targets, probabilities, weight, c)
            assert found[b, c] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ALL_METRICS)
def test_without_weights_both_definitions_of_a_metric_agree(name: str) -> None:
    targets, probabilities, _ = draw(seed=5)
    ones = np.ones((1, len(targets)))
    found = weighted.WEIGHTED[name](targets, probabilities, ones)[0]
    np.testing.assert_allclose(found, score_all(targets, probabilities)[name], atol=1e-12)


@pytest.mark.parametrize("name", ALL_METRICS)
def test_whole_weights_count_patients_that_often(name: str) -> None:
    targets, probabilities, weights = draw(seed=7)
    again = np.repeat(np.arange(len(targets)), weights[0].astype(int))
    found = weighted.WEIGHTED[name](targets, probabilities, weights[:1])[0]
    expected = score_all(targets[again], probabilities[again])[name]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ALL_METRICS)
def test_a_class_that_nobody_has_is_undefined(name: str) -> None:
    targets, probabilities, _ = draw(seed=11)
    targets[targets == 2] = 0
    ones = np.ones((1, len(targets)))
    found = weighted.WEIGHTED[name](targets, probabilities, ones)[0]
    assert np.isnan(found[2])
    assert not np.isnan(found[:2]).any()
    assert np.isnan(score_all(targets, probabilities)[name][2])
