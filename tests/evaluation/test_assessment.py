import numpy as np
import pytest

from aml_mil.evaluation import METRICS, evaluate
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.patients import patient_scores
from tests.evaluation.simulated import as_predictions, simulate


@pytest.mark.parametrize("sizes", [(25, 15), (14, 12, 11)])
def test_mean_and_sd_are_those_of_fit_mil(sizes: tuple[int, ...]) -> None:
    predictions = as_predictions(simulate(sizes))
    ours, theirs = assess(patient_scores(predictions), num_resamples=20), evaluate(predictions)
    for metric in METRICS:
        assert ours.macro[metric].mean == pytest.approx(theirs.macro[metric].mean, abs=1e-12)
        assert ours.macro[metric].sd == pytest.approx(theirs.macro[metric].sd, abs=1e-12)
        for label, figures in theirs.per_class.items():
            found = ours.per_class[label][metric]
            assert found.mean == pytest.approx(figures[metric].mean, abs=1e-12)
            assert found.sd == pytest.approx(figures[metric].sd, abs=1e-12)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score

    scores = simulate((14, 12, 11))
    expected = np.mean(
        [
            balanced_accuracy_score(scores.targets[rows], p[rows].argmax(axis=1))
            for rows in scores.fold_rows.values()
            for p in scores.probabilities
        ]
    )
    found = assess(scores, num_resamples=20).macro["balanced_accuracy"]
    assert found.mean == pytest.approx(expected, abs=1e-12)


def test_a_class_missing_in_a_fold_is_said() -> None:
    scores = simulate((20, 12), num_folds=4)
    scores.folds[(scores.targets == 1) & (scores.folds == 2)] = 3
    found = assess(scores, num_resamples=20)
    assert found.undefined == ((2, "A"), (2, "B"))
    assert found.macro["roc_auc"].mean is not None


def test_the_json_has_the_keys_of_metrics_json() -> None:
    document = assess(simulate(), num_resamples=20).to_json()
    figure = document["per_class"]["A"]["pr_auc"]
    assert set(figure) == {"mean", "sd", "averaged", "low", "high"}
    assert figure["low"] <= figure["averaged"] <= figure["high"]
    assert set(document["macro"]) > {"f1", "roc_auc", "pr_auc", "balanced_accuracy", "brier"}
