"""Whether one run beats another, over the same patients on the same folds.

Shapes: b resamples, P patients of a fold, C classes.

The seeds' probabilities are averaged per patient; ROC-AUC (one-vs-rest, macro) is computed per
fold and averaged over the folds. The bootstrap draws patients within fold and class, the same ones
for both runs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.metrics import score_classes
from aml_mil.evaluation.predictions import Predictions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """ROC-AUC of the first run minus that of the second.

    Attributes:
        first: ROC-AUC of the first run.
        second: ROC-AUC of the second run.
        difference: first - second.
        low: Lower end of the difference's bootstrap interval.
        high: Upper end.
        confidence: Coverage the interval is meant to have.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    confidence: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fold:
    """Test patients of one fold with the seeds' mean probabilities, [P, C]."""

    patient_ids: tuple[str, ...]
    targets: IntArray
    probabilities: FloatArray


def compare_paired(
    first: Predictions,
    second: Predictions,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare two runs on the patients of their test folds.

    Args:
        first: Predictions of one run.
        second: Predictions of the other.
        num_resamples: Bootstrap draws of the patients.
        confidence: Coverage of the interval, between 0 and 1.
        seed: Of the bootstrap.

    Raises:
        EvaluationError: The runs differ in classes, patients, labels or folds.
    """
    if first.classes != second.classes:
        raise EvaluationError(
            "expected two runs of the same classes, got "
            f"{', '.join(first.classes)} and {', '.join(second.classes)}"
        )
    ours, theirs = _folds(first), _folds(second)
    _check_same(ours, theirs)
    rng = np.random.default_rng(seed)
    resampled = np.zeros(num_resamples)
    for fold, a in ours.items():
        counts = _resample(a.targets, num_resamples, rng)
        resampled += _resampled_auc(a, counts) - _resampled_auc(theirs[fold], counts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled / len(ours), [tail, 1 - tail])
    auc, other = mean_fold_auc(first), mean_fold_auc(second)
    return PairedDifference(
        first=auc,
        second=other,
        difference=auc - other,
        low=float(low),
        high=float(high),
        confidence=confidence,
    )


def mean_fold_auc(predictions: Predictions) -> float:
    """Return the macro ROC-AUC of the seeds' mean probabilities, averaged over the folds."""
    values = [
        np.nanmean(score_classes(f.targets, f.probabilities)["roc_auc"])
        for f in _folds(predictions).values()
    ]
    return float(np.mean(values))


def _folds(predictions: Predictions) -> dict[int, _Fold]:
    test = predictions.of_role("test")
    folds = sorted(set(test.folds.tolist()))
    if not folds:
        raise EvaluationError("expected predictions of test patients, got none")
    return {fold: _average_seeds(test, fold) for fold in folds}


def _average_seeds(test: Predictions, fold: int) -> _Fold:
    rows = test.take(np.flatnonzero(test.folds == fold).tolist())
    ids, place, patient = np.unique(
        np.array(rows.patient_ids), return_index=True, return_inverse=True
    )
    sums = np.zeros((len(ids), len(rows.classes)))
    np.add.at(sums, patient, rows.probabilities)
    return _Fold(
        patient_ids=tuple(ids.tolist()),
        targets=rows.targets[place],
        probabilities=sums / np.bincount(patient)[:, None],
    )


def _check_same(ours: dict[int, _Fold], theirs: dict[int, _Fold]) -> None:
    if ours.keys() != theirs.keys():
        raise EvaluationError(
            f"expected two runs of the same folds, got {len(ours)} and {len(theirs)} folds"
        )
    for fold, a in ours.items():
        b = theirs[fold]
        if a.patient_ids != b.patient_ids:
            other = sorted(set(a.patient_ids) ^ set(b.patient_ids))
            raise EvaluationError(
                f"expected the same test patients in both runs, but fold {fold} differs in "
                f"{', '.join(other[:5])} ({len(other)}); fit both runs with the same folds.csv"
            )
        if not np.array_equal(a.targets, b.targets):
            raise EvaluationError(f"the two runs have different labels for patients of fold {fold}")


def _resample(targets: IntArray, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Count how often each patient is drawn, within its class, [b, P]."""
    counts = np.zeros((num_resamples, len(targets)))
    for c in np.unique(targets):
        members = np.flatnonzero(targets == c)
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), share, size=num_resamples)
    return counts


def _resampled_auc(fold: _Fold, counts: FloatArray) -> FloatArray:
    """Return the macro ROC-AUC of each resample, [b].

    A class's AUC is the share of (positive, negative) pairs in the right order, ties half; a
    resample weighs each pair by how often its two patients were drawn.
    """
    values = []
    for c in range(fold.probabilities.shape[1]):
        positive = fold.targets == c
        if positive.all() or not positive.any():
            continue
        scores = fold.probabilities[:, c]
        gap = scores[positive][:, None] - scores[~positive]
        ordered = (gap > 0) + 0.5 * (gap == 0)
        pairs = np.einsum("bp,pn,bn->b", counts[:, positive], ordered, counts[:, ~positive])
        values.append(pairs / (positive.sum() * (~positive).sum()))
    result: FloatArray = np.mean(values, axis=0)
    return result
