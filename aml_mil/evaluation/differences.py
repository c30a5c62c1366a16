"""Two runs over the same patients: by how much the first beats the second, in every metric.

Both runs' metrics are computed on the same resamples, so that what makes a patient hard for both
drops out.
"""

import numpy as np

from aml_mil.cohort.errors import name_some
from aml_mil.evaluation.bootstrap import (
    MACRO,
    NUM_RESAMPLES,
    Intervals,
    bca_interval,
    jackknife_influence,
    resample,
    weighted_metrics,
)
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.scores import ALL_METRICS


def paired_intervals(
    first: PatientScores,
    second: PatientScores,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Put an interval around first - second, by metric, then by class and ``macro``.

    Args:
        first: Test predictions of one run.
        second: Of the other, of the same patients.
        num_resamples: Draws.
        seed: Of the draws.

    Raises:
        EvaluationError: The runs differ in patients, labels, classes or folds.
    """
    check_comparable(first, second)
    targets, folds = first.targets, first.folds
    draws = resample(targets, folds, num_resamples=num_resamples, seed=seed)
    differences = []
    for weights in (np.ones((1, len(targets))), draws.drawn, draws.left_out):
        ours, theirs = weighted_metrics(first, weights), weighted_metrics(second, weights)
        differences.append({name: ours[name] - theirs[name] for name in ALL_METRICS})
    whole, drawn, left_out = differences
    return {
        name: {
            label: bca_interval(
                whole[name][0, column],
                drawn[name][:, column],
                jackknife_influence(left_out[name][:, column], targets, folds),
            )
            for column, label in enumerate((*first.classes, MACRO))
        }
        for name in ALL_METRICS
    }


def check_comparable(
    first: PatientScores, second: PatientScores, *, names: tuple[str, str] = ("first", "second")
) -> None:
    """Refuse to compare runs whose patients, labels, classes or folds differ.

    Raises:
        EvaluationError: They differ; says in what.
    """
    runs = f"{names[0]} and {names[1]}"
    if first.classes != second.classes:
        raise EvaluationError(
            f"{runs} are runs of different classes: {', '.join(first.classes)} and "
            f"{', '.join(second.classes)}; compare runs of one cohort"
        )
    if differing := sorted(set(first.patient_ids) ^ set(second.patient_ids)):
        raise EvaluationError(
            f"{runs} are runs of different cohorts: in one only {name_some(differing)}; "
            "compare runs over the same patients"
        )
    for what, ours, theirs, advice in (
        ("labels", first.targets, second.targets, "compare runs of one cohort"),
        ("folds", first.folds, second.folds, "fit them with the same --folds FILE"),
    ):
        if odd := [first.patient_ids[i] for i in np.flatnonzero(ours != theirs)]:
            named = name_some(odd, total=len(first.patient_ids))
            raise EvaluationError(f"{runs} have different {what} of {named}; {advice}")
