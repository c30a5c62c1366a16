"""Mean ROC and precision-recall curves of each class, with bands.

Shapes: B resamples, P patients, G points of the grid.

The seeds' probabilities are averaged; one curve per fold, averaged over the folds at common
abscissae; the band holds 95% of the resampled mean curves at each abscissa. A fold without the
class, or without any other, has no curve and is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from aml_mil.evaluation.bootstrap import CONFIDENCE, ROUNDING, resample
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.weighted import sums_by_score

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GRID = np.linspace(0, 1, 101)
NUM_RESAMPLES = 1000


class _Kind(NamedTuple):
    """One kind of curve on the grid: of the data, by scikit-learn, and of weighted resamples."""

    exact: Callable[[BoolArray, FloatArray], FloatArray]
    weighted: Callable[[BoolArray, FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """The mean curve of one class.

    Attributes:
        label: The class.
        x: False positive rate, or recall, [G].
        y: True positive rate, or precision, [G].
        low: Lower edge of the band, [G].
        high: Upper edge, [G].
        num_folds: Folds that have a curve.
    """

    label: str
    x: FloatArray
    y: FloatArray
    low: FloatArray
    high: FloatArray
    num_folds: int


def roc_curves(scores: PatientScores, *, seed: int = 0) -> tuple[Curve, ...]:
    """Return each class's mean true positive rate over the false positive rate.

    The curve of a fold rises in straight lines, so the area under the mean curve is the mean of
    the folds' areas but for the width of the grid.
    """
    return tuple(_mean_curve(scores, c, _ROC, seed=seed) for c in range(len(scores.classes)))


def precision_recall_curves(scores: PatientScores, *, seed: int = 0) -> tuple[Curve, ...]:
    """Return each class's mean precision over the recall.

    The precision at a recall is that of the strictest threshold that reaches it, as in average
    precision: precision may not be interpolated in straight lines.
    """
    return tuple(_mean_curve(scores, c, _PR, seed=seed) for c in range(len(scores.classes)))


def _mean_curve(scores: PatientScores, c: int, kind: _Kind, *, seed: int) -> Curve:
    draws = resample(scores.targets, scores.folds, num_resamples=NUM_RESAMPLES, seed=seed)
    truth, probability = scores.targets == c, scores.averaged[:, c]
    folds = [r for r in scores.fold_rows.values() if 0 < truth[r].sum() < len(r)]
    if not folds:
        none = np.full(len(GRID), np.nan)
        return Curve(label=scores.classes[c], x=GRID, y=none, low=none, high=none, num_folds=0)
    whole = [kind.exact(truth[r], probability[r]) for r in folds]
    resampled = [kind.weighted(truth[r], probability[r], draws.drawn[:, r]) for r in folds]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(resampled, axis=0), [tail, 1 - tail], axis=0)
    return Curve(
        label=scores.classes[c],
        x=GRID,
        y=np.mean(whole, axis=0),
        low=low,
        high=high,
        num_folds=len(folds),
    )


def _roc(truth: BoolArray, probability: FloatArray) -> FloatArray:
    false_positive, true_positive, _ = roc_curve(truth, probability)
    return _rises(false_positive, true_positive)


def _weighted_roc(truth: BoolArray, probability: FloatArray, weights: FloatArray) -> FloatArray:
    positive, negative = sums_by_score(truth, -probability, weights)
    start = np.zeros((len(weights), 1))
    true_positive = np.c_[start, np.cumsum(positive, axis=1) / positive.sum(axis=1, keepdims=True)]
    false_positive = np.c_[start, np.cumsum(negative, axis=1) / negative.sum(axis=1, keepdims=True)]
    return np.stack([_rises(x, y) for x, y in zip(false_positive, true_positive, strict=True)])


def _rises(x: FloatArray, y: FloatArray) -> FloatArray:
    """Read a curve off at the grid, in straight lines; where it stands upright, its top counts."""
    values: FloatArray = np.interp(GRID, x, y)
    return values


def _pr(truth: BoolArray, probability: FloatArray) -> FloatArray:
    precision, recall, _ = precision_recall_curve(truth, probability)
    # From the strictest threshold on; the last point, precision 1 at recall 0, is a convention.
    return _steps(recall[-2::-1], precision[-2::-1])


def _weighted_pr(truth: BoolArray, probability: FloatArray, weights: FloatArray) -> FloatArray:
    positive, negative = sums_by_score(truth, -probability, weights)
    found = np.cumsum(positive, axis=1)
    called = found + np.cumsum(negative, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    recall = found / found[:, -1:]
    return np.stack([_steps(r, p) for r, p in zip(recall, precision, strict=True)])


def _steps(recall: FloatArray, precision: FloatArray) -> FloatArray:
    """Read precision off at the grid: that of the strictest threshold with so much recall."""
    reached = np.searchsorted(recall, np.maximum(GRID - ROUNDING, ROUNDING))
    values: FloatArray = precision[np.minimum(reached, len(precision) - 1)]
    return values


_ROC = _Kind(exact=_roc, weighted=_weighted_roc)
_PR = _Kind(exact=_pr, weighted=_weighted_pr)
