"""Softmax over the cells of each bag, and its derivative, for packed bags.

Per-cell values [R, M, C] are moved to one row per bag [R, S, L, C], where a softmax is a softmax,
and back. Both are small: C columns per cell beside the hundreds of the features.
"""

import torch
from torch import Tensor

from aml_mil.mil.engine.packing import Packed


class BagSoftmax:
    """Normalise the scores of each bag's cells, per class.

    Args:
        packed: The bags.
        scores: Attention scores, [R, M, C].

    Attributes:
        weights: Attention, [R, M, C]; each bag's sums to 1, cells of no bag have 0.
    """

    def __init__(self, packed: Packed, scores: Tensor) -> None:
        replicates, cells, classes = scores.shape
        ranks = torch.arange(packed.longest, device=scores.device)
        self._inside_bag = (ranks < packed.sizes.unsqueeze(2)).unsqueeze(3)
        places = (packed.starts.unsqueeze(2) + ranks).clamp_(max=cells - 1)
        self._to_bags = places.reshape(replicates, -1, 1).expand(-1, -1, classes)
        back = packed.bag_of * packed.longest + packed.rank_of
        self._to_cells = back.unsqueeze(2).expand(-1, -1, classes)
        self._inside = packed.inside.unsqueeze(2)
        self._shape = (*packed.sizes.shape, packed.longest, classes)
        lowest = torch.finfo(scores.dtype).min
        by_bag = self._by_bag(scores).masked_fill(~self._inside_bag, lowest)
        self._by_bag_weights = by_bag.softmax(dim=2)
        self.weights = self._by_cell(self._by_bag_weights)

    def backward(self, grad_weights: Tensor) -> Tensor:
        """Return the gradient of the scores, [R, M, C], from that of the weights."""
        grad = self._by_bag(grad_weights).masked_fill(~self._inside_bag, 0)
        mean = (self._by_bag_weights * grad).sum(dim=2, keepdim=True)
        return self._by_cell(self._by_bag_weights * (grad - mean))

    def _by_bag(self, values: Tensor) -> Tensor:
        return values.gather(1, self._to_bags).view(self._shape)

    def _by_cell(self, values: Tensor) -> Tensor:
        flat = values.reshape(values.shape[0], -1, values.shape[-1])
        return flat.gather(1, self._to_cells).masked_fill(~self._inside, 0)


class BagColumns:
    """Lay per-cell values out in the columns of each cell's own bag, and read them from there.

    So laid out, weights pool the cells of all bags by one product: [R, M, S * C]^T [R, M, K].

    Args:
        packed: The bags.
        num_classes: C.
    """

    def __init__(self, packed: Packed, *, num_classes: int) -> None:
        self.shape = (*packed.rows.shape, packed.sizes.shape[1] * num_classes)
        device = packed.rows.device
        cells = torch.arange(packed.rows.numel(), device=device).view_as(packed.rows)
        first = cells * self.shape[2] + packed.bag_of * num_classes
        self._places = first.unsqueeze(2) + torch.arange(num_classes, device=device)

    def spread(self, values: Tensor, *, out: Tensor) -> Tensor:
        """Write [R, M, C] into memory of ``shape``, 0 in the columns of the other bags."""
        return out.zero_().put_(self._places, values)

    def own(self, columns: Tensor) -> Tensor:
        """Read each cell's values from the columns of its own bag, [R, M, S * C] → [R, M, C]."""
        return columns.take(self._places)
