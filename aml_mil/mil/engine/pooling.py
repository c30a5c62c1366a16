"""From reduced cells to bag vectors, and back: by attention, by the mean, by the maximum.

Shapes: R replicates, M cells of a replicate, K reduced features, S bags, A attentions (1 for mean
and maximum), L cells of the longest bag. K' is K rounded up; see ``layers``.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from aml_mil.mil.engine.packing import Packed
from aml_mil.mil.engine.segments import BagColumns, BagPlaces, BagSoftmax
from aml_mil.mil.engine.workspace import Workspace


class Pooling(Protocol):
    """Pool the cells of some packed bags, once."""

    def forward(self, reduced: Tensor) -> Tensor:
        """Return the bag vectors of reduced cells, [R, M, K'] → [R, S, A, K]."""

    def grad_scores(self, reduced: Tensor, grad_bags: Tensor) -> Tensor:
        """Return the gradient of the scores, [R, M, A], where there are any."""

    def grad_reduced(self, reduced: Tensor, grad_bags: Tensor, *, to: Tensor | None) -> Tensor:
        """Return the gradient of the reduced cells, [R, M, K'], added to another if given."""


class WeighedPooling:
    """Sum the cells of each bag by the softmax of their scores, or take their mean.

    Args:
        packed: The bags.
        scores: Of the cells, [R, M, A]; None for the mean.
        width: K.
        sum_dtype: Precision of sums; the bag vectors'.
        workspace: Memory for results.
    """

    def __init__(
        self,
        packed: Packed,
        scores: Tensor | None,
        *,
        width: int,
        sum_dtype: torch.dtype,
        workspace: Workspace,
    ) -> None:
        self._packed, self._width = packed, width
        self._sum_dtype, self._workspace = sum_dtype, workspace
        self._softmax = None if scores is None else BagSoftmax(packed, scores)

    def forward(self, reduced: Tensor) -> Tensor:
        """Return the bag vectors of reduced cells, [R, M, K'] → [R, S, A, K]."""
        weights = self._equal_weights() if self._softmax is None else self._softmax.weights
        self._columns = BagColumns(self._packed, num_columns=weights.shape[2])
        memory = self._workspace.take("spread", self._columns.shape, reduced.dtype)
        self._spread = self._columns.spread(weights.to(reduced.dtype), out=memory)
        pooled = torch.bmm(self._spread.mT, reduced)[:, :, : self._width].to(self._sum_dtype)
        return pooled.reshape(*self._packed.sizes.shape, -1, self._width)

    def grad_scores(self, reduced: Tensor, grad_bags: Tensor) -> Tensor:
        """Return the gradient of the scores, [R, M, A]."""
        assert self._softmax is not None
        products = self._workspace.take("products", self._columns.shape, reduced.dtype)
        torch.bmm(reduced, self._padded(reduced, grad_bags).mT, out=products)
        return self._softmax.backward(self._columns.own(products).to(self._sum_dtype))

    def grad_reduced(self, reduced: Tensor, grad_bags: Tensor, *, to: Tensor | None) -> Tensor:
        """Return the gradient of the reduced cells, [R, M, K'], added to another if given."""
        grad_bags = self._padded(reduced, grad_bags)
        if to is not None:
            return to.baddbmm_(self._spread, grad_bags)
        memory = self._workspace.take("reduced gradient", reduced.shape, reduced.dtype)
        return torch.bmm(self._spread, grad_bags, out=memory)

    def _padded(self, reduced: Tensor, grad_bags: Tensor) -> Tensor:
        """Return [R, S, A, K] as [R, S * A, K']."""
        padding = reduced.shape[2] - self._width
        return pad(grad_bags.flatten(1, 2), (0, padding)).to(reduced.dtype)

    def _equal_weights(self) -> Tensor:
        sizes = self._packed.sizes.gather(1, self._packed.bag_of).clamp(min=1)
        return (self._packed.inside.to(self._sum_dtype) / sizes).unsqueeze(2)


class MaxPooling:
    """Take the maximum of each feature over the cells of each bag, the first of several.

    Args:
        packed: The bags.
        width: K.
        sum_dtype: Precision of the bag vectors.
        workspace: Memory for results.
    """

    def __init__(
        self, packed: Packed, *, width: int, sum_dtype: torch.dtype, workspace: Workspace
    ) -> None:
        self._packed, self._width = packed, width
        self._sum_dtype, self._workspace = sum_dtype, workspace

    def forward(self, reduced: Tensor) -> Tensor:
        """Return the bag vectors of reduced cells, [R, M, K'] → [R, S, 1, K]."""
        lowest = torch.finfo(reduced.dtype).min
        largest = BagPlaces(self._packed).by_bag(reduced[:, :, : self._width], fill=lowest).max(2)
        self._cells = (largest.indices + self._packed.starts.unsqueeze(2)).clamp_(
            max=reduced.shape[1] - 1
        )
        present = self._packed.present.unsqueeze(2)
        return largest.values.to(self._sum_dtype).masked_fill(~present, 0).unsqueeze(2)

    def grad_scores(self, reduced: Tensor, grad_bags: Tensor) -> Tensor:
        """Raise: there are no scores."""
        raise NotImplementedError

    def grad_reduced(self, reduced: Tensor, grad_bags: Tensor, *, to: Tensor | None) -> Tensor:
        """Return the gradient of the reduced cells, [R, M, K']."""
        assert to is None
        grad = self._workspace.take("reduced gradient", reduced.shape, reduced.dtype).zero_()
        grad_bags = grad_bags.squeeze(2).masked_fill(~self._packed.present.unsqueeze(2), 0)
        grad[:, :, : self._width].scatter_add_(1, self._cells, grad_bags.to(grad.dtype))
        return grad
