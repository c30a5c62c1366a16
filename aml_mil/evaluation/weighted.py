"""The metrics of many weighted resamples at once: what the bootstrap computes a thousand times.

Shapes: B resamples, n patients, C classes, G distinct scores.

Each function takes the classes of the patients, their probabilities and one weight per patient and
resample, and returns one value per resample and class, [B, C]. Each equals the metric of
`aml_mil.evaluation.scores` with ``sample_weight``; a class that no weighted patient has, or all
have, is NaN.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Weighted = Callable[[IntArray, FloatArray, FloatArray], FloatArray]

NUM_BINS = 10


def roc_auc(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve of each class against the rest, by ranks; ties count a half."""

    def one(is_class: npt.NDArray[np.bool_], scores: FloatArray) -> FloatArray:
        positive, negative = sums_by_score(is_class, scores, weights)
        below = np.cumsum(negative, axis=1) - negative / 2
        return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))

    return _each_class(one, targets, probabilities, weights)


def pr_auc(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Average precision of each class against the rest."""

    def one(is_class: npt.NDArray[np.bool_], scores: FloatArray) -> FloatArray:
        positive, negative = sums_by_score(is_class, -scores, weights)
        found = np.cumsum(positive, axis=1)
        called = found + np.cumsum(negative, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return _ratio((positive * precision).sum(axis=1), positive.sum(axis=1))

    return _each_class(one, targets, probabilities, weights)


def f1(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """F1 of the most probable class."""
    hits, support, called = _counts(targets, probabilities, weights)
    return _defined(_ratio(2 * hits, support + called), support, weights)


def precision(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Precision of the most probable class; 0 where the class is never called."""
    hits, support, called = _counts(targets, probabilities, weights)
    values = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _defined(values, support, weights)


def recall(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Recall of the most probable class."""
    hits, support, _ = _counts(targets, probabilities, weights)
    return _defined(_ratio(hits, support), support, weights)


def brier(targets: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean squared distance of each class's probability from the truth."""
    squares = (probabilities - _one_hot(targets, probabilities)) ** 2
    values = weights @ squares / weights.sum(axis=1, keepdims=True)
    return _defined(values, weights @ _one_hot(targets, probabilities), weights)


def calibration_error(
    targets: IntArray, probabilities: FloatArray, weights: FloatArray
) -> FloatArray:
    """Distance between stated and true frequency of each class, over bins of equal width."""
    truth = _one_hot(targets, probabilities)
    bins = bin_of(probabilities)
    distance = np.zeros((len(weights), probabilities.shape[1]))
    for k in range(NUM_BINS):
        distance += np.abs(weights @ ((probabilities - truth) * (bins == k)))
    values = distance / weights.sum(axis=1, keepdims=True)
    return _defined(values, weights @ truth, weights)


def bin_of(probabilities: FloatArray) -> IntArray:
    """Place probabilities in `NUM_BINS` bins of equal width, closed on the right."""
    edges = np.linspace(0, 1, NUM_BINS + 1)
    return np.searchsorted(edges[1:-1], probabilities).astype(np.int64)


WEIGHTED: dict[str, Weighted] = {
    "f1": f1,
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "precision": precision,
    "recall": recall,
    "brier": brier,
    "calibration_error": calibration_error,
}


def _each_class(
    one: Callable[[npt.NDArray[np.bool_], FloatArray], FloatArray],
    targets: IntArray,
    probabilities: FloatArray,
    weights: FloatArray,
) -> FloatArray:
    columns = [one(targets == c, probabilities[:, c]) for c in range(probabilities.shape[1])]
    support = weights @ _one_hot(targets, probabilities)
    return _defined(np.stack(columns, axis=1), support, weights)


def sums_by_score(
    is_class: npt.NDArray[np.bool_], scores: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum the weights of a class's patients and of the rest at each distinct score, ascending.

    Args:
        is_class: Whether each patient is of the class, [n].
        scores: [n].
        weights: [B, n].

    Returns:
        Sums of the class and of the rest, each [B, G].
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    positive = np.add.reduceat(weights[:, order] * is_class[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~is_class[order], starts, axis=1)
    return positive, negative


def _counts(
    targets: IntArray, probabilities: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    truth = _one_hot(targets, probabilities)
    called = _one_hot(probabilities.argmax(axis=1), probabilities)
    return weights @ (truth * called), weights @ truth, weights @ called


def _one_hot(targets: IntArray, probabilities: FloatArray) -> FloatArray:
    return np.eye(probabilities.shape[1])[targets]


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)


def _defined(values: FloatArray, support: FloatArray, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=1, keepdims=True)
    return np.where((support > 0) & (support < total), values, np.nan)
