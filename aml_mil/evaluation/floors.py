"""What a model must beat: simple predictors on the same folds as the model's.

Shapes: P patients, N cells of all patients, F figures per patient, C classes.

A cohort can be separable by its stain or by how many cells were photographed. Each floor is a
logistic regression on a few figures per patient, fitted on the training and validation patients,
since it selects nothing, and predicted on the test fold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aml_mil.embedding.colour import pool_colours
from aml_mil.evaluation.predictions import Predictions, Role, concatenate

FloatArray = npt.NDArray[np.float64]
MAX_ITERATIONS = 10_000
# Fold of a patient whom no fold tests.
NOT_TESTED = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloorCohort:
    """Patients with what the floors look at.

    Attributes:
        patient_ids: P ids.
        targets: Class of each patient, [P].
        folds: Fold in which each patient is tested, [P]; `NOT_TESTED` where none does.
        fitted: Whether a fold's heads train on a patient or are validated on it, by fold, [P].
        classes: C names.
        offsets: First cell of each patient and, last, the number of cells, [P + 1].
        colour: Mean and s.d. of R, G, B of each cell, [N, 6]; None where no image was seen, which
            leaves that floor out.
        pooled: Mean features of each patient, [P, D], from the store that a fold reads, by fold.
    """

    patient_ids: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    fitted: Mapping[int, npt.NDArray[np.bool_]]
    classes: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    colour: npt.NDArray[np.float32] | None
    pooled: Mapping[int, FloatArray]


def predict_floors(cohort: FloorCohort) -> dict[str, Predictions]:
    """Predict the tested patients by each floor, fitted on whom their fold's heads were given.

    Returns:
        Test predictions, of seed 0, by the name of the floor.
    """
    figures: dict[str, Callable[[int], FloatArray]] = {
        "class_prior": lambda _: np.zeros((len(cohort.targets), 1)),
        "cell_count": lambda _: np.diff(cohort.offsets)[:, None].astype(np.float64),
    }
    if (colour := cohort.colour) is not None:
        figures["colour"] = lambda _: patient_colours(colour, cohort.offsets)
    figures["mean_pooling"] = lambda fold: cohort.pooled[fold]
    return {
        name: concatenate(
            [
                _predict_fold(cohort, fold, figures_of(fold), prior=name == "class_prior")
                for fold in sorted(cohort.fitted)
            ]
        )
        for name, figures_of in figures.items()
    }


def fitted_patients(
    predictions: Predictions, patient_ids: Sequence[str]
) -> dict[int, npt.NDArray[np.bool_]]:
    """Return whether a fold's heads train on a patient or are validated on it, by fold, [P].

    Args:
        predictions: Of all roles.
        patient_ids: P ids.
    """
    given: dict[int, set[str]] = {fold: set() for fold in predictions.folds.tolist()}
    rows = zip(predictions.patient_ids, predictions.folds.tolist(), predictions.roles, strict=True)
    for patient_id, fold, role in rows:
        if role != "test":
            given[fold].add(patient_id)
    return {fold: np.array([p in own for p in patient_ids]) for fold, own in given.items()}


def patient_colours(colour: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]) -> FloatArray:
    """Return mean and s.d. of R, G, B over all pixels of each patient, [P, 6].

    Args:
        colour: Mean and s.d. of R, G, B of each cell, [N, 6].
        offsets: First cell of each patient and, last, N, [P + 1].
    """
    return np.stack(
        [pool_colours(colour[first:last]) for first, last in pairwise(offsets.tolist())]
    )


def mean_per_patient(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> FloatArray:
    """Return the mean over each patient's cells and, of maps, positions, [N, F, …] → [P, F]."""
    means = np.stack(
        [
            values[first:last].mean(axis=0, dtype=np.float64)
            for first, last in pairwise(offsets.tolist())
        ]
    )
    pooled: FloatArray = means.reshape(*means.shape[:2], -1).mean(axis=2)
    return pooled


def predict_by_colour(
    colours: FloatArray,
    changed: FloatArray,
    *,
    targets: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    fitted: Mapping[int, npt.NDArray[np.bool_]],
    num_classes: int,
) -> FloatArray:
    """Predict patients of changed colour by the floor that has seen others unchanged.

    Args:
        colours: Of each patient, [P, 6].
        changed: Of each patient under M changes, [M, P, 6].
        targets: Class of each patient, [P].
        folds: Fold in which each patient is tested, [P].
        fitted: As a `FloorCohort`'s.
        num_classes: C.

    Returns:
        Probabilities, [M, P, C].
    """
    probabilities = np.zeros((*changed.shape[:2], num_classes))
    for fold, own in fitted.items():
        test = np.flatnonzero(folds == fold)
        model = floor_model().fit(colours[own], targets[own])
        for found, patients in zip(probabilities, changed, strict=True):
            found[test] = _predict(model, patients[test], num_classes=num_classes)
    return probabilities


def floor_model() -> Pipeline:
    """Build what a floor is: a logistic regression on standardised figures, classes balanced."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=MAX_ITERATIONS)
    )


def _predict_fold(
    cohort: FloorCohort, fold: int, figures: FloatArray, *, prior: bool
) -> Predictions:
    test = np.flatnonzero(cohort.folds == fold)
    fitted = cohort.fitted[fold]
    model = DummyClassifier(strategy="prior") if prior else floor_model()
    model.fit(figures[fitted], cohort.targets[fitted])
    role: Role = "test"
    return Predictions(
        classes=cohort.classes,
        patient_ids=tuple(cohort.patient_ids[i] for i in test),
        targets=cohort.targets[test],
        folds=np.full(len(test), fold),
        seeds=np.zeros(len(test), dtype=np.int64),
        roles=(role,) * len(test),
        probabilities=_predict(model, figures[test], num_classes=len(cohort.classes)),
    )


def _predict(model: Any, figures: FloatArray, *, num_classes: int) -> FloatArray:
    """Return probabilities, [n, C]; 0 for classes that the model has not met."""
    probabilities = np.zeros((len(figures), num_classes))
    probabilities[:, model.classes_] = model.predict_proba(figures)
    return probabilities
