"""F1, ROC-AUC and PR-AUC of a run: per class, macro, mean and s.d. over folds x seeds.

Shapes: n patients, C classes.

scikit-learn computes; how its figures are put together stands here and nowhere else:

- a class is scored one-vs-rest; macro is the plain mean over the classes;
- a class that no test patient of a fold has, or all have, is undefined there and left out;
- one set of figures per (fold, seed); mean and s.d. are over these sets, the s.d. with n - 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.predictions import Predictions

METRICS = ("f1", "roc_auc", "pr_auc")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and spread of one figure over folds x seeds; None where it is not defined."""

    mean: float | None
    sd: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the summary as JSON values."""
        return {"mean": self.mean, "sd": self.sd}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures of a run.

    Attributes:
        macro: By metric.
        per_class: By class, then by metric.
        undefined: ``(fold, class)`` pairs that could not be scored.
    """

    macro: Mapping[str, Summary]
    per_class: Mapping[str, Mapping[str, Summary]]
    undefined: tuple[tuple[int, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return macro and per_class as JSON values."""
        return {
            "macro": _json_of(self.macro),
            "per_class": {name: _json_of(figures) for name, figures in self.per_class.items()},
        }


def score_classes(
    targets: npt.NDArray[np.int64], probabilities: FloatArray
) -> dict[str, FloatArray]:
    """Score each class of one prediction set against the rest.

    Args:
        targets: True class of each patient, [n].
        probabilities: [n, C].

    Returns:
        By metric, one value per class, [C]; NaN where the class is undefined.
    """
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    f1 = f1_score(targets, predicted, labels=range(num_classes), average=None, zero_division=0.0)
    scores = {name: np.full(num_classes, np.nan) for name in METRICS}
    for c in range(num_classes):
        truth = targets == c
        if truth.all() or not truth.any():
            continue
        scores["f1"][c] = f1[c]
        scores["roc_auc"][c] = roc_auc_score(truth, probabilities[:, c])
        scores["pr_auc"][c] = average_precision_score(truth, probabilities[:, c])
    return scores


def evaluate(predictions: Predictions) -> Evaluation:
    """Score the test patients of every replicate.

    Raises:
        EvaluationError: There are no test predictions.
    """
    test = predictions.of_role("test")
    replicates = sorted(set(zip(test.folds.tolist(), test.seeds.tolist(), strict=True)))
    if not replicates:
        raise EvaluationError("expected predictions of test patients, got none")
    sets = [test.of_replicate(fold, seed) for fold, seed in replicates]
    scored = [score_classes(s.targets, s.probabilities) for s in sets]
    by_metric = {name: np.stack([s[name] for s in scored]) for name in METRICS}
    undefined = np.isnan(by_metric["roc_auc"])
    return Evaluation(
        macro={name: _summarise(_macro(values)) for name, values in by_metric.items()},
        per_class={
            label: {name: _summarise(values[:, c]) for name, values in by_metric.items()}
            for c, label in enumerate(test.classes)
        },
        undefined=tuple(
            sorted(
                {(replicates[i][0], test.classes[c]) for i, c in np.argwhere(undefined).tolist()}
            )
        ),
    )


def _macro(values: FloatArray) -> FloatArray:
    """Average the defined classes of each set, [sets, C] → [sets]."""
    return np.array([v[~np.isnan(v)].mean() if not np.isnan(v).all() else np.nan for v in values])


def _summarise(values: FloatArray | Sequence[float]) -> Summary:
    defined = np.asarray(values)[~np.isnan(values)]
    return Summary(
        mean=float(defined.mean()) if len(defined) else None,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 else None,
    )


def _json_of(figures: Mapping[str, Summary]) -> dict[str, object]:
    return {name: summary.to_json() for name, summary in figures.items()}
