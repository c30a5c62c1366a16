"""Forward and backward pass of the stacked heads over packed bags.

Shapes: R replicates, M cells of a replicate, K reduced features, A attentions, S bags, C classes.
A primed width is rounded up, with a column of ones and zeros behind it; see ``layers``.

Each matrix product covers all replicates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aml_mil.mil.engine.attention import StackedAttention
from aml_mil.mil.engine.classifier import classifier_step, classify
from aml_mil.mil.engine.half import gradient_scale
from aml_mil.mil.engine.layers import Parameters
from aml_mil.mil.engine.packing import Packed
from aml_mil.mil.engine.pooling import MaxPooling, Pooling, WeighedPooling
from aml_mil.mil.engine.reduction import StackedReduction, blocks_of
from aml_mil.mil.engine.table import Table
from aml_mil.mil.engine.windows import MapSize
from aml_mil.mil.engine.workspace import Workspace
from aml_mil.mil.head import HeadShape


class StackedOutput(NamedTuple):
    """What the heads say about packed bags."""

    logits: Tensor
    """[R, S, C]; meaningless where there is no bag."""
    scores: Tensor
    """Attention before the softmax, [R, M, A]; 0 where none is learnt."""


class StackedStep(NamedTuple):
    """Losses and gradients of one step."""

    losses: Tensor
    """Cross-entropy of each bag, 0 where there is none, [R, S]."""
    gradients: Parameters
    """Of the sum of each replicate's losses."""


class StackedHeads:
    """Compute R heads at once.

    Args:
        parameters: Stacked parameters; their dtype is that of sums, softmax and gradients. They
            may change in place, which ``refresh`` takes over.
        shape: What the heads are made of.
        table: The cells; its dtype is that of the large products' operands.
        workspace: Memory for the activations.
    """

    def __init__(
        self, parameters: Parameters, *, shape: HeadShape, table: Table, workspace: Workspace
    ) -> None:
        self._parameters, self._shape = parameters, shape
        self._table, self._workspace = table, workspace
        self._sum_dtype = parameters["classifier_hidden.weight"].dtype
        self._reduction = StackedReduction(
            parameters,
            table=table,
            map_size=MapSize(*shape.map_size) if shape.map_size else None,
            workspace=workspace,
        )
        self._attention: StackedAttention | None = None
        if shape.pool == "attention":
            self._attention = StackedAttention(parameters, dtype=table.dtype, workspace=workspace)

    def refresh(self) -> None:
        """Take over the parameters as they are now."""
        self._reduction.refresh()
        if self._attention:
            self._attention.refresh()

    def predict(self, packed: Packed) -> StackedOutput:
        """Classify bags without gradients, holding the activations of one block at a time."""
        parts = []
        for cells in self._blocks(packed):
            reduced = self._reduction.reduced(self._reduction.forward(packed.rows[:, cells]))
            if self._attention:
                scores = self._attention.forward(reduced).scores
            else:
                scores = reduced.new_zeros(*reduced.shape[:2], 1, dtype=self._sum_dtype)
            parts.append((reduced.clone(), scores))
        reduced, scores = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
        bags = self._pooling(packed, scores).forward(reduced)
        return StackedOutput(logits=classify(self._parameters, bags), scores=scores)

    def step(self, packed: Packed, *, dropout: Tensor | None = None) -> StackedStep:
        """Return the losses of the bags and the gradients of each replicate's sum of losses.

        Args:
            packed: The bags.
            dropout: What the reduced features are multiplied by, [R, M, K'].
        """
        blocks = self._blocks(packed)
        rows = [packed.rows[:, cells] for cells in blocks]
        outputs = [self._reduction.forward(own, block=i) for i, own in enumerate(rows)]
        reduced = self._join([self._reduction.reduced(o) for o in outputs])
        if dropout is not None:
            reduced = reduced * dropout
        scored = self._attention.forward(reduced) if self._attention else None
        pooling = self._pooling(packed, scored.scores if scored else None)
        bags = pooling.forward(reduced)
        losses, grad_bags, gradients = classifier_step(self._parameters, packed, bags)
        scale = gradient_scale(grad_bags) if self._table.dtype == torch.float16 else None
        if scale is not None:
            grad_bags = grad_bags * scale[:, None, None, None]
        large: Parameters = {}
        grad: Tensor | None = None
        if self._attention and scored:
            grad_scores = pooling.grad_scores(reduced, grad_bags)
            grad = self._attention.backward(scored, reduced, grad_scores, into=large)
        grad = pooling.grad_reduced(reduced, grad_bags, to=grad)
        if dropout is not None:
            grad.mul_(dropout)
        for i, cells in enumerate(blocks):
            own = grad[:, cells].contiguous()
            self._reduction.backward(rows[i], outputs[i], own, into=large)
        if scale is not None:
            large = {n: (g.flatten(1) / scale[:, None]).view_as(g) for n, g in large.items()}
        return StackedStep(losses=losses, gradients=gradients | large)

    def _blocks(self, packed: Packed) -> list[slice]:
        return blocks_of(packed.rows.shape[1], self._reduction.rows_per_cell)

    def _join(self, blocks: list[Tensor]) -> Tensor:
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)

    def _pooling(self, packed: Packed, scores: Tensor | None) -> Pooling:
        width, workspace = self._shape.widths[-1], self._workspace
        if self._shape.pool == "max":
            return MaxPooling(packed, width=width, sum_dtype=self._sum_dtype, workspace=workspace)
        return WeighedPooling(
            packed,
            scores if self._attention else None,
            width=width,
            sum_dtype=self._sum_dtype,
            workspace=workspace,
        )
