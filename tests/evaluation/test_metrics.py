import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from aml_mil.evaluation.metrics import METRICS, score_classes


def test_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    targets = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)) + np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = score_classes(targets, probabilities)
    expected = {
        "f1": f1_score(targets, probabilities.argmax(1), average="macro"),
        "roc_auc": roc_auc_score(targets, probabilities, multi_class="ovr", average="macro"),
        "pr_auc": average_precision_score(np.eye(3)[targets], probabilities, average="macro"),
    }
    assert {name: values.mean() for name, values in found.items()} == pytest.approx(expected)


def test_figures_of_a_class_are_known_where_they_can_be_counted():
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8]])
    scores = score_classes(targets, probabilities)
    # Class 1 is called three times, twice rightly; of 4 pairs one is in the wrong order.
    assert scores["f1"][1] == pytest.approx(2 * 2 / (3 + 2))
    assert scores["roc_auc"][1] == 3 / 4
    # Ranked by the probability of class 1: yes, no, yes.
    assert scores["pr_auc"][1] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_a_class_that_nobody_or_everybody_has_is_undefined():
    scores = score_classes(np.array([1, 1, 1]), np.full((3, 2), 0.5))
    for metric in METRICS:
        assert np.isnan(scores[metric]).all()
