"""The floor of an encoder that has learned nothing: mean features of random weights.

Shapes: P patients, N cells of all patients.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from aml_mil.cohort.errors import name_some
from aml_mil.encoders.load import RANDOM_PREFIX
from aml_mil.evaluation.assessment import Assessment, Figure, assess
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.comparison import RunToCompare
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.floors import FloorCohort, mean_per_patient, predict_floors
from aml_mil.evaluation.patients import PatientScores, patient_scores
from stores import open_store, pack_bags

RANDOM_ENCODER = "random_encoder"


def with_random_floor(run: RunToCompare, store_path: Path) -> RunToCompare:
    """Give a run the floor ``random_encoder``, on its own patients and folds.

    Args:
        run: To be compared.
        store_path: The run's cohort, embedded with ``--weights random:SEED``.

    Raises:
        EvaluationError: The store's weights are not random, or it lacks patients of the run.
    """
    floor = assess_random_floor(run.scores, store_path)
    figures = {MACRO: floor.macro, **floor.per_class}
    floors: dict[str, dict[str, dict[str, Figure]]] = {
        name: {group: dict(values) for group, values in groups.items()}
        for name, groups in run.floors.items()
    }
    floors[RANDOM_ENCODER] = {group: dict(values) for group, values in figures.items()}
    return replace(run, floors=floors)


def assess_random_floor(scores: PatientScores, store_path: Path) -> Assessment:
    """Fit a logistic regression on mean random features, on the folds of a run.

    Raises:
        EvaluationError: The store's weights are not random, or it lacks patients of the run.
    """
    with open_store(store_path) as store:
        if not store.manifest.weights.startswith(RANDOM_PREFIX):
            raise EvaluationError(
                f"expected a store of random weights at {store_path}, got "
                f"{store.manifest.weights}; embed the cohort with --weights random:0"
            )
        if missing := sorted(set(scores.patient_ids) - set(store.bag_ids)):
            raise EvaluationError(
                f"patients of the run without a bag in {store_path}: "
                f"{name_some(missing, total=len(scores.patient_ids))}; embed the same cohort"
            )
        bags = pack_bags(store, scores.patient_ids)
    features = bags.features[0].reshape(bags.num_instances, -1)
    pooled = mean_per_patient(features, bags.offsets)
    predicted = predict_floors(
        FloorCohort(
            patient_ids=scores.patient_ids,
            targets=scores.targets,
            folds=scores.folds,
            classes=scores.classes,
            offsets=bags.offsets,
            colour=np.zeros((bags.num_instances, 6), dtype=np.float32),
            pooled={int(fold): pooled for fold in np.unique(scores.folds)},
        )
    )["mean_pooling"]
    return assess(patient_scores(predicted, where=str(store_path)))
