"""Cell types by nearest neighbours, patients kept apart: what features know before any training.

Shapes: Q query cells, B bank cells, D features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

NUM_NEIGHBOURS = 20
CHUNK_ROWS = 1024


def knn_predict(
    query: Tensor,
    bank: Tensor,
    bank_types: Sequence[str],
    *,
    query_patients: Sequence[str],
    bank_patients: Sequence[str],
    num_neighbours: int = NUM_NEIGHBOURS,
) -> list[str]:
    """Let each query cell's nearest cells of other patients vote.

    Args:
        query: [Q, D].
        bank: [B, D].
        bank_types: Cell type of each bank cell.
        query_patients: Patient of each query cell.
        bank_patients: Patient of each bank cell; a query's own patient has no vote.
        num_neighbours: Votes, by cosine; fewer where fewer cells remain.

    Returns:
        The type with most votes; among equals the one whose votes are nearer in sum.
    """
    names = sorted(set(bank_types))
    targets = torch.tensor([names.index(name) for name in bank_types])
    owners = {patient: i for i, patient in enumerate(sorted({*query_patients, *bank_patients}))}
    own = torch.tensor([owners[p] for p in query_patients])
    theirs = torch.tensor([owners[p] for p in bank_patients])
    bank = normalize(bank.float(), dim=1)
    count = min(num_neighbours, len(bank))
    predicted: list[str] = []
    for start in range(0, len(query), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        cosines = normalize(query[rows].float(), dim=1) @ bank.T
        cosines[own[rows, None] == theirs[None]] = -torch.inf
        nearest = cosines.topk(count, dim=1)
        is_vote = nearest.values.isfinite()
        # A vote counts 1; its cosine, at most 1 in 1,000, decides between equals.
        weights = torch.where(is_vote, 1 + nearest.values / (1000 * count), 0.0)
        votes = torch.zeros(len(cosines), len(names))
        votes.scatter_add_(1, targets[nearest.indices], weights)
        predicted.extend(names[int(i)] for i in votes.argmax(1))
    return predicted


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
    predicted = knn_predict(typed, typed, types, query_patients=owners, bank_patients=owners)
    return float(np.mean([a == b for a, b in zip(predicted, types, strict=True)]))


def paired_interval(
    correct: NDArray[np.bool_],
    baseline: NDArray[np.bool_],
    patients: Sequence[str],
    *,
    num_draws: int,
    seed: int,
) -> tuple[float, float]:
    """Bound the difference of two accuracies on the same cells by resampling patients.

    Args:
        correct: Whether each cell is right.
        baseline: The same for what it is compared with.
        patients: Of each cell; drawn with replacement, with all their cells.
        num_draws: Bootstrap draws.
        seed: Of the draws.

    Returns:
        2.5th and 97.5th percentile of the difference.
    """
    names = sorted(set(patients))
    index = np.array([names.index(patient) for patient in patients])
    sizes = np.bincount(index, minlength=len(names))
    gains = np.bincount(index, correct.astype(float) - baseline, minlength=len(names))
    draws = np.random.default_rng(seed).integers(len(names), size=(num_draws, len(names)))
    differences = gains[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)
