import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from aml_mil.evaluation import curves
from aml_mil.evaluation.curves import precision_recall_curves, roc_curves
from tests.evaluation.simulated import simulate


def test_the_area_under_the_mean_roc_is_the_mean_of_the_folds_areas() -> None:
    scores = simulate((60, 40))
    expected = np.mean(
        [
            roc_auc_score(scores.targets[rows] == 1, scores.averaged[rows, 1])
            for rows in scores.fold_rows.values()
        ]
    )
    curve = roc_curves(scores)[1]
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(expected, abs=0.01)


def test_the_area_under_the_steps_is_the_average_precision() -> None:
    scores = simulate((60, 40), num_folds=1)
    expected = average_precision_score(scores.targets == 1, scores.averaged[:, 1])
    curve = precision_recall_curves(scores)[1]
    assert curve.y[1:].mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", [curves._ROC, curves._PR])
def test_equal_weights_give_the_curve_of_scikit_learn(kind: curves._Kind) -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(50) < 0.4, np.round(rng.random(50), 1)
    weighted = kind.weighted(truth, scores, np.full((2, 50), 2.0))
    np.testing.assert_allclose(weighted, [kind.exact(truth, scores)] * 2, atol=1e-12)


def test_the_band_holds_the_curve() -> None:
    curve = roc_curves(simulate((60, 40)))[1]
    assert (curve.low <= curve.y + 1e-9).mean() > 0.95
    assert (curve.high >= curve.y - 1e-9).mean() > 0.95


def test_a_fold_without_the_class_has_no_curve() -> None:
    scores = simulate((20, 12), num_folds=4)
    scores.folds[(scores.targets == 1) & (scores.folds == 2)] = 3
    assert roc_curves(scores)[1].num_folds == 3
