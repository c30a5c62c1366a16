from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.patients import PatientScores
from tests.evaluation.simulated import simulate


def score_sets(scores: PatientScores) -> Iterator[dict[str, list[float]]]:
    """Score every class of every (fold, seed) with scikit-learn."""
    for rows in scores.fold_rows.values():
        for p in scores.probabilities[:, rows]:
            truth = np.eye(len(scores.classes), dtype=int)[scores.targets[rows]]
            called = np.eye(len(scores.classes), dtype=int)[p.argmax(axis=1)]
            yield {
                "f1": f1_score(truth, called, average=None),
                "roc_auc": roc_auc_score(truth, p, average=None),
                "pr_auc": average_precision_score(truth, p, average=None),
            }


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "pr_auc"])
@pytest.mark.parametrize("sizes", [(25, 15), (14, 12, 11)])
def test_mean_and_sd_are_over_folds_and_seeds_as_scikit_learn_scores_them(
    sizes: tuple[int, ...], metric: str
) -> None:
    scores = simulate(sizes)
    expected = np.array([scored[metric] for scored in score_sets(scores)])
    assert len(expected) == len(scores.fold_rows) * len(scores.seeds) > 2
    found = assess(scores, num_resamples=20)
    columns = {label: expected[:, c] for c, label in enumerate(scores.classes)}
    for label, values in {"macro": expected.mean(axis=1), **columns}.items():
        figure = (found.macro if label == "macro" else found.per_class[label])[metric]
        assert figure.mean == pytest.approx(values.mean(), abs=1e-12)
        assert figure.sd == pytest.approx(values.std(ddof=1), abs=1e-12)


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


def test_a_class_missing_in_a_fold_is_left_out_there_and_said() -> None:
    scores = simulate((14, 12, 11), num_folds=2, num_seeds=1)
    scores.folds[(scores.targets == 2) & (scores.folds == 0)] = 1
    found = assess(scores, num_resamples=20)
    assert found.undefined == ((0, "C"),)
    where = {fold: (scores.targets[r], scores.averaged[r]) for fold, r in scores.fold_rows.items()}
    areas = {
        fold: [roc_auc_score(targets == c, p[:, c]) for c in range(2 if fold == 0 else 3)]
        for fold, (targets, p) in where.items()
    }
    assert found.per_class["C"]["roc_auc"].mean == pytest.approx(areas[1][2])
    assert found.per_class["C"]["roc_auc"].sd is None
    macro = (np.mean(areas[0]) + np.mean(areas[1])) / 2
    assert found.macro["roc_auc"].mean == pytest.approx(macro)


def test_of_two_classes_both_go_where_one_is_missing() -> None:
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
