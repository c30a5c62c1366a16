"""Confusion matrices of the test folds."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.patients import PatientScores


def confusion(scores: PatientScores, *, seed: int | None = 0) -> npt.NDArray[np.int64]:
    """Count patients by true and most probable class, over all test folds.

    Args:
        scores: Test predictions by patient.
        seed: Whose predictions; None averages the seeds.

    Returns:
        Rows are true classes, columns predicted ones, [C, C].

    Raises:
        EvaluationError: The run has no such seed.
    """
    if seed is None:
        probabilities = scores.averaged
    elif seed in scores.seeds:
        probabilities = scores.probabilities[scores.seeds.index(seed)]
    else:
        named = ", ".join(map(str, scores.seeds))
        raise EvaluationError(f"expected one of the run's seeds {named}, got {seed}")
    counts: npt.NDArray[np.int64] = confusion_matrix(
        scores.targets, probabilities.argmax(axis=1), labels=range(len(scores.classes))
    )
    return counts
