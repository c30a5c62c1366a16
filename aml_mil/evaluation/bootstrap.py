"""Patient-level bootstrap intervals: what would have come out with other patients like these.

Shapes: B resamples, P patients, C classes, F folds.

The seeds' probabilities are averaged per patient. Patients are drawn with replacement within fold
and class; a metric is computed per fold and averaged over the folds, as the probabilities of heads
of different folds need not be comparable. An external cohort is one fold. The calibration error is
the exception: it is computed over all folds together, since ten bins of one fold are nearly empty.

Intervals are BCa, which covers 94 to 96% where plain percentiles cover 91% (ROC-AUC 0.9, 22
positives among 80 patients).

Source:
    Efron 1987, Better bootstrap confidence intervals, https://doi.org/10.2307/2289144; several
    strata: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 5.3.2
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.scores import ALL_METRICS, BALANCED_ACCURACY, CALIBRATION_ERROR
from aml_mil.evaluation.weighted import WEIGHTED

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
# Two resamples whose metrics differ by less are the same but for rounding.
ROUNDING = 1e-12
MACRO = "macro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and the interval around it.

    Attributes:
        estimate: Of the seeds' averaged probabilities; None where the figure is not defined.
        low: Lower end.
        high: Upper end.
    """

    estimate: float | None
    low: float | None
    high: float | None

    def __contains__(self, value: float) -> bool:
        return self.low is not None and self.high is not None and self.low <= value <= self.high


UNDEFINED = Interval(estimate=None, low=None, high=None)
# By metric, then by class or `MACRO`.
Intervals = dict[str, dict[str, Interval]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resamples:
    """Which patients were drawn how often, and which patients were left out in turn.

    Attributes:
        drawn: Times each patient was drawn, [B, P].
        left_out: Weights without each patient in turn, the rest of its stratum scaled up, [P, P].
    """

    drawn: FloatArray
    left_out: FloatArray


def resample(
    targets: IntArray, folds: IntArray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Resamples:
    """Draw patients with replacement within fold and class.

    Args:
        targets: Class of each patient, [P].
        folds: Fold of each patient, [P].
        num_resamples: B.
        seed: Of the draws; the same patients and seed give the same draws, so that two runs over
            the same patients can be compared pair by pair.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros((num_resamples, len(targets)))
    left_out = np.ones((len(targets), len(targets)))
    for fold, target in sorted(set(zip(folds.tolist(), targets.tolist(), strict=True))):
        rows = np.flatnonzero((folds == fold) & (targets == target))
        size = len(rows)
        drawn[:, rows] = rng.multinomial(size, np.full(size, 1 / size), size=num_resamples)
        if size > 1:
            left_out[np.ix_(rows, rows)] = (1 - np.eye(size)) * size / (size - 1)
    return Resamples(drawn=drawn, left_out=left_out)


def weighted_metrics(scores: PatientScores, weights: FloatArray) -> dict[str, FloatArray]:
    """Compute every metric of each row of weights.

    Args:
        scores: The patients; their seeds are averaged.
        weights: One weight per patient, [B, P].

    Returns:
        By metric, [B, C + 1]: each class and, last, macro. Undefined values are NaN.
    """
    return {name: fold_mean(name, scores, weights) for name in ALL_METRICS}


def fold_mean(name: str, scores: PatientScores, weights: FloatArray) -> FloatArray:
    """Compute one metric of each row of weights, [B, C + 1], as in `weighted_metrics`."""
    probabilities = scores.averaged
    folds = list(scores.fold_rows.values())
    if name == CALIBRATION_ERROR:
        folds = [np.arange(len(scores.targets))]
    per_fold = [
        WEIGHTED[name](scores.targets[rows], probabilities[rows], weights[:, rows])
        for rows in folds
    ]
    with_macro = [np.c_[values, mean_defined(values, axis=1)] for values in per_fold]
    return mean_defined(np.stack(with_macro), axis=0)


def bootstrap_intervals(
    scores: PatientScores,
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Intervals:
    """Put an interval around every metric, per class and macro.

    Args:
        scores: The patients.
        num_resamples: Draws; the ends move by about a twentieth of the width with 1,000.
        confidence: Coverage, between 0 and 1.
        seed: Of the draws.

    Returns:
        By metric of `ALL_METRICS` and `BALANCED_ACCURACY`, then by class and ``macro``.
    """
    draws = resample(scores.targets, scores.folds, num_resamples=num_resamples, seed=seed)
    estimates = weighted_metrics(scores, np.ones((1, len(scores.targets))))
    resampled = weighted_metrics(scores, draws.drawn)
    left_out = weighted_metrics(scores, draws.left_out)
    counts = np.bincount(scores.targets, minlength=len(scores.classes))
    smallest = int(counts[counts > 0].min())
    intervals: Intervals = {}
    for name in ALL_METRICS:
        intervals[name] = {
            label: bca_interval(
                estimates[name][0, column],
                resampled[name][:, column],
                jackknife_influence(left_out[name][:, column], scores.targets, scores.folds),
                confidence=confidence,
                num_cases=smallest if label == MACRO else int(counts[column]),
            )
            for column, label in enumerate((*scores.classes, MACRO))
        }
    intervals[BALANCED_ACCURACY] = {MACRO: intervals["recall"][MACRO]}
    return intervals


def jackknife_influence(values: FloatArray, targets: IntArray, folds: IntArray) -> FloatArray:
    """Turn leave-one-out values into each patient's influence on the figure, [P]."""
    influence = np.zeros(len(values))
    for fold, target in set(zip(folds.tolist(), targets.tolist(), strict=True)):
        rows = np.flatnonzero((folds == fold) & (targets == target))
        influence[rows] = (len(rows) - 1) / len(rows) * (values[rows].mean() - values[rows])
    return influence


def bca_interval(
    estimate: float,
    resampled: FloatArray,
    influence: FloatArray,
    *,
    confidence: float = CONFIDENCE,
    num_cases: int | None = None,
) -> Interval:
    """Turn resampled values into a bias-corrected and accelerated interval.

    Args:
        estimate: Value of the data as they are.
        resampled: Values of the resamples, [B].
        influence: Of each patient on the value, [P].
        confidence: Coverage, between 0 and 1.
        num_cases: Patients behind a figure between 0 and 1. Where every resample gives the same,
            resampling is blind: a figure of 1 or 0 gets the interval of a share observed in all or
            none of so many cases (Clopper-Pearson), any other figure none. Without it a 0, such as
            the difference of a run from itself, is certain.

    Returns:
        The interval; undefined where the estimate or every resample is.
    """
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(estimate) or not len(defined):
        return UNDEFINED
    if np.ptp(defined) < ROUNDING:
        return _blind_interval(float(estimate), num_cases, confidence=confidence)
    below = ((defined < estimate - ROUNDING).mean() + (defined < estimate + ROUNDING).mean()) / 2
    smallest = 1 / len(defined)
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.clip(below, smallest, 1 - smallest)))
    spread = float((influence**2).sum())
    skew = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shifts = [bias + normal.inv_cdf(tail) for tail in ((1 - confidence) / 2, (1 + confidence) / 2)]
    low, high = np.quantile(
        defined, [normal.cdf(bias + shift / (1 - skew * shift)) for shift in shifts]
    )
    return Interval(estimate=float(estimate), low=float(low), high=float(high))


def _blind_interval(estimate: float, num_cases: int | None, *, confidence: float) -> Interval:
    if not num_cases:
        end = 0.0 if abs(estimate) < ROUNDING else None
        return Interval(estimate=estimate, low=end, high=end)
    bound = ((1 - confidence) / 2) ** (1 / num_cases)
    if abs(estimate - 1) < ROUNDING:
        return Interval(estimate=1.0, low=bound, high=1.0)
    if abs(estimate) < ROUNDING:
        return Interval(estimate=0.0, low=0.0, high=1 - bound)
    return Interval(estimate=estimate, low=None, high=None)


def mean_defined(values: FloatArray, *, axis: int) -> FloatArray:
    """Average along an axis what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0).sum(axis=axis), defined.sum(axis=axis)
    mean: FloatArray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
