"""The training patients of a finished run: from its folder, or measured again in its stores."""

import numpy as np

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.ood import TrainingPatients, measure_training_patients
from aml_mil.evaluation.run import OpenRun
from aml_mil.mil.run_dir import FEATURES_FILE, Run
from stores import pack_bags


def read_training_patients(run: Run) -> TrainingPatients:
    """Return what new patients are held against.

    A run folder of an older version does not hold it; then the run's stores are read.

    Raises:
        EvaluationError: Neither the folder nor a store at its old place tells.
    """
    path = run.path / FEATURES_FILE
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            if TrainingPatients.are_in(arrays):
                return TrainingPatients.from_arrays(arrays)
    try:
        return _measure(run)
    except EvaluationError as error:
        raise EvaluationError(
            f"{path} does not hold the training patients, and {error}; fit again"
        ) from error


def _measure(run: Run) -> TrainingPatients:
    opened = OpenRun(run)
    train = run.predictions().of_role("train")
    folds = []
    for fold in sorted(set(train.folds.tolist())):
        rows = np.flatnonzero(train.folds == fold)
        ids = sorted({train.patient_ids[row] for row in rows})
        with opened.store(fold) as store:
            bags = pack_bags(store, ids)
        features = [bags.features[0, bags.bag(i)] for i in range(len(ids))]
        folds.append(measure_training_patients(features))
    return TrainingPatients.stack(folds)
