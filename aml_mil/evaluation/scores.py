"""Every metric of one prediction set, class by class, as scikit-learn computes it.

Shapes: n patients, C classes.

F1, ROC-AUC and PR-AUC come from `metrics`; beside them stand here: precision and recall of the most
probable class; the Brier score of each class's probability; the calibration error of each class
(Kull et al. 2019, https://arxiv.org/abs/1910.12656): the distance between stated and true frequency
over ten bins of equal width, weighted by the bins' patients. Macro is the mean over the classes, so
that macro recall is the balanced accuracy, and for two classes macro Brier is the usual one.
"""

import numpy as np
import numpy.typing as npt
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_score, recall_score

from aml_mil.evaluation.metrics import METRICS, score_classes
from aml_mil.evaluation.weighted import NUM_BINS, bin_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CALIBRATION_ERROR = "calibration_error"
ALL_METRICS = (*METRICS, "precision", "recall", "brier", CALIBRATION_ERROR)
BALANCED_ACCURACY = "balanced_accuracy"
# Of these, smaller is better.
LOSSES = frozenset({"brier", CALIBRATION_ERROR})


def score_all(targets: IntArray, probabilities: FloatArray) -> dict[str, FloatArray]:
    """Score each class of one prediction set against the rest.

    Args:
        targets: Class of each patient, [n].
        probabilities: [n, C].

    Returns:
        By metric of `ALL_METRICS`, [C]; NaN for a class that no patient has, or all have.
    """
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    labels = range(num_classes)
    scores = score_classes(targets, probabilities)
    undefined = np.isnan(scores["roc_auc"])
    scores["precision"] = precision_score(
        targets, predicted, labels=labels, average=None, zero_division=0.0
    )
    scores["recall"] = recall_score(
        targets, predicted, labels=labels, average=None, zero_division=0.0
    )
    scores["brier"] = np.array(
        [brier_score_loss(targets == c, probabilities[:, c], pos_label=True) for c in labels]
    )
    scores[CALIBRATION_ERROR] = calibration_errors(targets, probabilities)
    return {name: np.where(undefined, np.nan, values) for name, values in scores.items()}


def calibration_errors(targets: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return the calibration error of each class, [C]; NaN as in `score_all`."""
    truths = [targets == c for c in range(probabilities.shape[1])]
    return np.array(
        [
            _calibration_error(truth, probabilities[:, c])
            if 0 < truth.sum() < len(truth)
            else np.nan
            for c, truth in enumerate(truths)
        ]
    )


def _calibration_error(truth: npt.NDArray[np.bool_], probability: FloatArray) -> float:
    true, stated = calibration_curve(truth, probability, n_bins=NUM_BINS)
    counts = np.bincount(bin_of(probability), minlength=NUM_BINS)
    return float((np.abs(true - stated) * counts[counts > 0]).sum() / len(truth))
