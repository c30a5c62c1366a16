"""The test predictions of a run, one row per patient: what intervals, curves and tables start from.

Shapes: S seeds (external cohorts: replicates), P patients, C classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_mil.cohort.errors import name_some
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.predictions import Predictions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientScores:
    """Every patient as predicted by heads that never saw it.

    Attributes:
        classes: C names.
        patient_ids: P ids, sorted.
        targets: Class of each patient, [P].
        folds: Fold in which each patient was tested, [P]; all 0 for an external cohort.
        seeds: S seeds; for an external cohort one number per replicate.
        probabilities: [S, P, C].
    """

    classes: tuple[str, ...]
    patient_ids: tuple[str, ...]
    targets: IntArray
    folds: IntArray
    seeds: tuple[int, ...]
    probabilities: FloatArray

    @property
    def averaged(self) -> FloatArray:
        """Mean probabilities over the seeds, [P, C]."""
        averaged: FloatArray = self.probabilities.mean(axis=0)
        return averaged

    @property
    def fold_rows(self) -> dict[int, IntArray]:
        """Rows of the patients of each fold, by fold in order."""
        return {fold: np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds).tolist()}


def patient_scores(predictions: Predictions, *, where: str = "predictions") -> PatientScores:
    """Arrange a run's test predictions by patient.

    Args:
        predictions: Of all roles.
        where: Names the run in errors.

    Returns:
        Patients in sorted order, seeds in sorted order.

    Raises:
        EvaluationError: There are no test predictions, a patient is tested in two folds or lacks a
            seed, its label changes, or a row is no probability distribution.
    """
    test = predictions.of_role("test")
    if not test.patient_ids:
        message = (
            f"{where} holds no test predictions; only a finished cross-validation can be evaluated"
        )
        raise EvaluationError(message)
    _check_probabilities(test, where)
    ids, first, patient = np.unique(
        np.array(test.patient_ids), return_index=True, return_inverse=True
    )
    seeds, seed = np.unique(test.seeds, return_inverse=True)
    targets, folds = test.targets[first], test.folds[first]
    counts = np.zeros((len(seeds), len(ids)), dtype=np.int64)
    np.add.at(counts, (seed, patient), 1)
    odd = (targets[patient] != test.targets) | (folds[patient] != test.folds)
    _refuse(ids[np.unique(patient[odd])], len(ids), where, "with two labels or two test folds")
    odd_count = (counts != 1).any(axis=0)
    _refuse(ids[odd_count], len(ids), where, f"without exactly one row for each seed {seeds}")
    probabilities = np.empty((len(seeds), len(ids), len(test.classes)))
    probabilities[seed, patient] = test.probabilities
    return PatientScores(
        classes=test.classes,
        patient_ids=tuple(ids.tolist()),
        targets=targets,
        folds=folds,
        seeds=tuple(seeds.tolist()),
        probabilities=probabilities,
    )


def _check_probabilities(test: Predictions, where: str) -> None:
    values = test.probabilities
    in_range = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1)
    good = in_range & (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)
    bad = dict.fromkeys(test.patient_ids[i] for i in np.flatnonzero(~good))
    _refuse(tuple(bad), len(set(test.patient_ids)), where, "whose probabilities do not sum to 1")


def _refuse(ids: npt.NDArray[np.str_] | tuple[str, ...], total: int, where: str, what: str) -> None:
    if len(ids):
        named = name_some([str(patient_id) for patient_id in ids], total=total)
        raise EvaluationError(f"{where}: test patients {what}: {named}; run fit-mil again")
