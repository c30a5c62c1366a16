"""The floor of an encoder that has learned nothing: mean features of random weights.

Shapes: P patients, N cells of all patients.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aml_mil.cohort.errors import name_some
from aml_mil.encoders.load import RANDOM_PREFIX
from aml_mil.evaluation.assessment import Assessment, Figure, assess
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.comparison import RunToCompare
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.floors import (
    NOT_TESTED,
    FloorCohort,
    fitted_patients,
    mean_per_patient,
    predict_floors,
)
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.evaluation.predictions import Predictions
from aml_mil.mil.run_dir import METRICS_FILE, Run, write_json
from stores import open_store, pack_bags

RANDOM_ENCODER = "random_encoder"


def with_random_floor(
    run: RunToCompare, predictions: Predictions, store_path: Path
) -> RunToCompare:
    """Give a run the floor ``random_encoder``, on its own patients and folds.

    Args:
        run: To be compared.
        predictions: Its, of all roles.
        store_path: The run's cohort, embedded with ``--weights random:SEED``.

    Raises:
        EvaluationError: The store's weights are not random, or it lacks patients of the run.
    """
    floor = assess_random_floor(predictions, store_path)
    figures = {MACRO: floor.macro, **floor.per_class}
    floors: dict[str, dict[str, dict[str, Figure]]] = {
        name: {group: dict(values) for group, values in groups.items()}
        for name, groups in run.floors.items()
    }
    floors[RANDOM_ENCODER] = {group: dict(values) for group, values in figures.items()}
    return replace(run, floors=floors)


def add_random_floor(run_path: Path, store_path: Path) -> dict[str, Any]:
    """Write the floor ``random_encoder`` into a run's metrics.json; return what it says now.

    Raises:
        EvaluationError: The store's weights are not random, or it lacks patients of the run.
    """
    run = Run(run_path)
    floor = assess_random_floor(run.predictions(), store_path).to_json()
    metrics = run.metrics
    metrics["floors"][RANDOM_ENCODER] = {**floor["macro"], "per_class": floor["per_class"]}
    write_json(run_path / METRICS_FILE, metrics)
    return metrics


def check_random_store(store_path: Path, *, bag_ids: Sequence[str]) -> None:
    """Refuse a store that cannot give the floor.

    Args:
        store_path: The store.
        bag_ids: Patients it must hold.

    Raises:
        EvaluationError: Its weights are not random, or it lacks patients.
    """
    with open_store(store_path) as store:
        if not store.manifest.weights.startswith(RANDOM_PREFIX):
            raise EvaluationError(
                f"expected a store of random weights at {store_path}, got "
                f"{store.manifest.weights}; embed the cohort with --weights random:0"
            )
        if missing := sorted(set(bag_ids) - set(store.bag_ids)):
            raise EvaluationError(
                f"patients of the run without a bag in {store_path}: "
                f"{name_some(missing, total=len(bag_ids))}; embed the same cohort"
            )


def assess_random_floor(predictions: Predictions, store_path: Path) -> Assessment:
    """Fit a logistic regression on mean random features, on the folds of a run.

    Raises:
        EvaluationError: The store's weights are not random, or it lacks patients of the run.
    """
    check_random_store(store_path, bag_ids=sorted(set(predictions.patient_ids)))
    return assess(floor_scores(predictions, store_path)["mean_pooling"])


def floor_scores(predictions: Predictions, store_path: Path) -> dict[str, PatientScores]:
    """Predict the test patients of a run by every floor, from the cells of a store.

    Args:
        predictions: The run's, of all roles.
        store_path: A store of the same cohort, with vectors or maps.

    Returns:
        By the name of the floor, as `predict_floors` names them.
    """
    ids, first = np.unique(predictions.patient_ids, return_index=True)
    patient_ids = tuple(ids.tolist())
    with open_store(store_path) as store:
        bags = pack_bags(store, patient_ids)
    pooled = mean_per_patient(bags.features[0], bags.offsets)
    test = predictions.of_role("test")
    tested = dict(zip(test.patient_ids, test.folds.tolist(), strict=True))
    floors = predict_floors(
        FloorCohort(
            patient_ids=patient_ids,
            targets=predictions.targets[first],
            folds=np.array([tested.get(p, NOT_TESTED) for p in patient_ids]),
            fitted=fitted_patients(predictions, patient_ids),
            classes=predictions.classes,
            offsets=bags.offsets,
            colour=bags.colour,
            pooled=dict.fromkeys(tested.values(), pooled),
        )
    )
    return {name: patient_scores(found, where=str(store_path)) for name, found in floors.items()}
