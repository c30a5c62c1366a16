"""F1, ROC-AUC and PR-AUC of one prediction set, class by class, as scikit-learn computes them.

Shapes: n patients, C classes.
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

METRICS = ("f1", "roc_auc", "pr_auc")

FloatArray = npt.NDArray[np.float64]


def score_classes(
    targets: npt.NDArray[np.int64], probabilities: FloatArray
) -> dict[str, FloatArray]:
    """Score each class of one prediction set against the rest.

    Args:
        targets: True class of each patient, [n].
        probabilities: [n, C].

    Returns:
        By metric, one value per class, [C]; NaN where the class is undefined.
    """
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    f1 = f1_score(targets, predicted, labels=range(num_classes), average=None, zero_division=0.0)
    scores = {name: np.full(num_classes, np.nan) for name in METRICS}
    for c in range(num_classes):
        truth = targets == c
        if truth.all() or not truth.any():
            continue
        scores["f1"][c] = f1[c]
        scores["roc_auc"][c] = roc_auc_score(truth, probabilities[:, c])
        scores["pr_auc"][c] = average_precision_score(truth, probabilities[:, c])
    return scores
