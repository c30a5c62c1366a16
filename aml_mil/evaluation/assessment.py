"""Everything said about a run's predictions: mean, s.d. over folds x seeds, and intervals.

Shapes: S seeds, P patients, C classes, F folds.

How a run's figures are put together stands here and nowhere else:

- a class is scored one-vs-rest; macro is the plain mean over the classes;
- a class that no test patient of a fold has, or all have, is undefined there and left out;
- one set of figures per (fold, seed); mean and s.d. are over these sets, the s.d. with n - 1;
- the calibration error is that of all folds of a seed together; its mean and s.d. are over seeds;
- the interval is that of the seeds' averaged probabilities, as in `bootstrap`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_mil.evaluation.bootstrap import MACRO, NUM_RESAMPLES, bootstrap_intervals, mean_defined
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.scores import (
    ALL_METRICS,
    BALANCED_ACCURACY,
    CALIBRATION_ERROR,
    calibration_errors,
    score_all,
)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with its spread and its interval; None where it is not defined.

    Attributes:
        mean: Over folds x seeds.
        sd: Over folds x seeds, with n - 1.
        averaged: Of the seeds' averaged probabilities, which the interval belongs to.
        low: Lower end of the 95% bootstrap interval over patients.
        high: Upper end.
    """

    mean: float | None
    sd: float | None = None
    averaged: float | None = None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return the figure as JSON values."""
        return {name: getattr(self, name) for name in ("mean", "sd", "averaged", "low", "high")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """All figures of a run.

    Attributes:
        macro: By metric of `ALL_METRICS`, and balanced accuracy.
        per_class: By class, then by metric of `ALL_METRICS`.
        undefined: ``(fold, class)`` pairs that could not be scored, as no test patient of the fold
            is of the class, or all are.
        num_patients: Patients in all.
    """

    macro: Mapping[str, Figure]
    per_class: Mapping[str, Mapping[str, Figure]]
    undefined: tuple[tuple[int, str], ...]
    num_patients: int

    def to_json(self) -> dict[str, Any]:
        """Return macro and per_class as JSON values, in the form of metrics.json."""
        return {
            "macro": {name: figure.to_json() for name, figure in self.macro.items()},
            "per_class": {
                label: {name: figure.to_json() for name, figure in figures.items()}
                for label, figures in self.per_class.items()
            },
        }


def assess(
    scores: PatientScores, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Assessment:
    """Score the patients of a run in every metric.

    Args:
        scores: Test predictions by patient.
        num_resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """
    sets, undefined = _score_sets(scores)
    intervals = bootstrap_intervals(scores, num_resamples=num_resamples, seed=seed)

    def figure(name: str, label: str, values: FloatArray) -> Figure:
        interval = intervals[name][label]
        defined = values[~np.isnan(values)]
        return Figure(
            mean=float(defined.mean()) if len(defined) else None,
            sd=float(defined.std(ddof=1)) if len(defined) > 1 else None,
            averaged=interval.estimate,
            low=interval.low,
            high=interval.high,
        )

    macro = {name: figure(name, MACRO, mean_defined(sets[name], axis=1)) for name in ALL_METRICS}
    macro[BALANCED_ACCURACY] = macro["recall"]
    return Assessment(
        macro=macro,
        per_class={
            label: {name: figure(name, label, sets[name][:, c]) for name in ALL_METRICS}
            for c, label in enumerate(scores.classes)
        },
        undefined=undefined,
        num_patients=len(scores.patient_ids),
    )


def _score_sets(
    scores: PatientScores,
) -> tuple[dict[str, FloatArray], tuple[tuple[int, str], ...]]:
    """Score each (fold, seed), [F * S, C] by metric; the calibration error each seed, [S, C]."""
    per_set = {
        fold: [score_all(scores.targets[rows], p[rows]) for p in scores.probabilities]
        for fold, rows in scores.fold_rows.items()
    }
    undefined = tuple(
        (fold, label)
        for fold, scored in per_set.items()
        for c, label in enumerate(scores.classes)
        if np.isnan(scored[0]["roc_auc"][c])
    )
    sets = {
        name: np.stack([s[name] for scored in per_set.values() for s in scored])
        for name in ALL_METRICS
    }
    if len(per_set) > 1:
        sets[CALIBRATION_ERROR] = np.stack(
            [calibration_errors(scores.targets, p) for p in scores.probabilities]
        )
    return sets, undefined
