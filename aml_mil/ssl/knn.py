"""Cell types by nearest neighbours, patients kept apart: what features know before any training.

Shapes: B cells, D features.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from aml_mil.neighbours import predict_by_neighbours


def knn_accuracy(
    features: Tensor, cell_types: Sequence[str], patients: Sequence[str]
) -> float | None:
    """Measure how often the neighbours from other patients name a cell's type.

    Args:
        features: [B, D].
        cell_types: Of each row; "" for cells without one, which take no part.
        patients: Of each row.

    Returns:
        Share of correct cells; None with fewer than two patients or types to tell apart.
    """
    rows = [i for i, name in enumerate(cell_types) if name]
    types, owners = [cell_types[i] for i in rows], [patients[i] for i in rows]
    if len(set(types)) < 2 or len(set(owners)) < 2:
        return None
    typed = features[rows]
    predicted = predict_by_neighbours(
        typed, typed, types, query_patients=owners, bank_patients=owners
    )
    return float(np.mean([a == b for a, b in zip(predicted, types, strict=True)]))
