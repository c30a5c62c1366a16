"""Softmax over the cells of each bag, and its derivative, for packed bags.

Shapes: R replicates, M cells of a replicate, S bags, L cells of the longest bag, A attentions.

Per-cell values [R, M, A] are moved to one row per bag [R, S, L, A], where a softmax is a softmax,
and back. Both are small: A columns per cell beside the hundreds of the features.
"""

import torch
from torch import Tensor

from aml_mil.mil.engine.packing import Packed


class BagPlaces:
    """Move per-cell values to one row per bag, and back.

    Args:
        packed: The bags.
    """

    def __init__(self, packed: Packed) -> None:
        replicates, cells = packed.rows.shape
        ranks = torch.arange(packed.longest, device=packed.rows.device)
        self._outside_bag = (ranks >= packed.sizes.unsqueeze(2)).unsqueeze(3)
        places = (packed.starts.unsqueeze(2) + ranks).clamp_(max=cells - 1)
        self._to_bags = places.reshape(replicates, -1, 1)
        self._to_cells = (packed.bag_of * packed.longest + packed.rank_of).unsqueeze(2)
        self._outside = ~packed.inside.unsqueeze(2)
        self._shape = (*packed.sizes.shape, packed.longest)

    def by_bag(self, values: Tensor, *, fill: float) -> Tensor:
        """Return [R, M, …] as [R, S, L, …], ``fill`` behind the last cell of each bag."""
        moved = values.gather(1, self._to_bags.expand(-1, -1, values.shape[2]))
        return moved.view(*self._shape, -1).masked_fill_(self._outside_bag, fill)

    def by_cell(self, values: Tensor) -> Tensor:
        """Return [R, S, L, …] as [R, M, …], 0 for cells of no bag."""
        flat = values.flatten(1, 2)
        moved = flat.gather(1, self._to_cells.expand(-1, -1, flat.shape[2]))
        return moved.masked_fill_(self._outside, 0)


class BagSoftmax:
    """Normalise the scores of each bag's cells, per attention.

    Args:
        packed: The bags.
        scores: Attention scores, [R, M, A].

    Attributes:
        weights: Attention, [R, M, A]; each bag's sums to 1, cells of no bag have 0.
    """

    def __init__(self, packed: Packed, scores: Tensor) -> None:
        self._places = BagPlaces(packed)
        lowest = torch.finfo(scores.dtype).min
        self._by_bag = self._places.by_bag(scores, fill=lowest).softmax(dim=2)
        self.weights = self._places.by_cell(self._by_bag)

    def backward(self, grad_weights: Tensor) -> Tensor:
        """Return the gradient of the scores, [R, M, A], from that of the weights."""
        grad = self._places.by_bag(grad_weights, fill=0)
        mean = (self._by_bag * grad).sum(dim=2, keepdim=True)
        return self._places.by_cell(grad.sub_(mean).mul_(self._by_bag))


class BagColumns:
    """Lay per-cell values out in the columns of each cell's own bag, and read them from there.

    So laid out, weights pool the cells of all bags by one product: [R, M, S * A]^T [R, M, K].

    Args:
        packed: The bags.
        num_columns: A.
    """

    def __init__(self, packed: Packed, *, num_columns: int) -> None:
        self.shape = (*packed.rows.shape, packed.sizes.shape[1] * num_columns)
        device = packed.rows.device
        cells = torch.arange(packed.rows.numel(), device=device).view_as(packed.rows)
        first = cells * self.shape[2] + packed.bag_of * num_columns
        self._places = first.unsqueeze(2) + torch.arange(num_columns, device=device)

    def spread(self, values: Tensor, *, out: Tensor) -> Tensor:
        """Write [R, M, A] into memory of ``shape``, 0 in the columns of the other bags."""
        return out.zero_().put_(self._places, values)

    def own(self, columns: Tensor) -> Tensor:
        """Read each cell's values from the columns of its own bag, [R, M, S * A] → [R, M, A]."""
        return columns.take(self._places)
