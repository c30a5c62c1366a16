"""The training patients of every fold, measured for the warning that a new patient is far."""

from collections.abc import Sequence

import numpy as np

from aml_mil.cohort.folds import FoldRoles
from aml_mil.evaluation.ood import TrainingPatients, measure_training_patients
from aml_mil.mil.inputs import FitInputs


def training_patients(inputs: FitInputs, roles: Sequence[FoldRoles]) -> TrainingPatients:
    """Measure each fold's training patients, identity view."""
    folds = []
    for fold, fold_roles in enumerate(roles):
        bags = inputs.stores[inputs.store_index(fold)].bags
        rows = np.flatnonzero(np.isin(inputs.patient_ids, fold_roles.train)).tolist()
        folds.append(measure_training_patients([bags.features[0, bags.bag(i)] for i in rows]))
    return TrainingPatients.stack(folds)
