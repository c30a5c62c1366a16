"""Cell types by the nearest cells of other patients.

Shapes: Q query cells, B bank cells, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

NUM_NEIGHBOURS = 20
# Rows of cosines at a time: with a bank of 12,000 cells some 50 MB.
CHUNK_ROWS = 1024


def predict_by_neighbours(
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
        # In float64, as so small a part of twenty votes is lost in float32.
        weights = torch.where(is_vote, 1 + nearest.values.double() / (1000 * count), 0.0)
        votes = torch.zeros(len(cosines), len(names), dtype=torch.float64)
        votes.scatter_add_(1, targets[nearest.indices], weights)
        predicted.extend(names[int(i)] for i in votes.argmax(1))
    return predicted
