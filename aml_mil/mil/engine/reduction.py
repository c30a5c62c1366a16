"""The reducing convolutions of all replicates, forward and backward, over blocks of cells.

Shapes: R replicates, M cells of a replicate, P positions of a cell, D features, K reduced
features. A primed width has a column of ones and zeros behind it; see ``layers``.
"""

from itertools import pairwise

from torch import Tensor

from aml_mil.mil.engine.layers import (
    Parameters,
    StackedLinear,
    relu_,
    relu_backward_,
    round_up,
)
from aml_mil.mil.engine.table import Table
from aml_mil.mil.engine.windows import MapSize, from_windows, to_windows
from aml_mil.mil.engine.workspace import Workspace

BLOCK_ROWS = 5120
"""Rows of a replicate that go through a layer at once: ten bags of 500 cells of vectors."""


def blocks_of(num_cells: int, rows_per_cell: int) -> list[slice]:
    """Cut the cells of a replicate into blocks of nearly equal size."""
    count = -(-num_cells * rows_per_cell // BLOCK_ROWS)
    size = round_up(-(-num_cells // count))
    cuts = [*range(0, num_cells, size), num_cells]
    return [slice(first, last) for first, last in pairwise(cuts)]


class StackedReduction:
    """Reduce cells by each replicate's convolutions.

    Args:
        parameters: Stacked parameters.
        table: The cells.
        map_size: Sides of the maps; None for vectors.
        workspace: Memory for the activations.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        table: Table,
        map_size: MapSize | None,
        workspace: Workspace,
    ) -> None:
        self._table, self._workspace = table, workspace
        names = [n.removesuffix(".weight") for n in parameters if n.endswith(".weight")]
        self._layers = [
            StackedLinear(n, parameters, keeps_ones=True, dtype=table.dtype, workspace=workspace)
            for n in names
            if n.startswith("reduction")
        ]
        self._gathered: Tensor | None = None
        self._sizes: list[MapSize | None] = [map_size]
        for _ in self._layers:
            map_size = map_size.convolved if map_size else None
            self._sizes.append(map_size)

    @property
    def rows_per_cell(self) -> int:
        """Rows of the largest product that a cell takes part in."""
        return self._sizes[1].num_positions if self._sizes[1] else 1

    def refresh(self) -> None:
        """Take over the parameters as they are now."""
        for layer in self._layers:
            layer.refresh()

    def forward(self, rows: Tensor, *, block: int = 0) -> list[Tensor]:
        """Return the outputs of every layer, [R, M * P, width'], for cells [R, M] of the table.

        They stay as they are until the same block is asked for again.
        """
        outputs: list[Tensor] = []
        for i, layer in enumerate(self._layers):
            inputs = self._inputs(i, rows if i == 0 else outputs[-1])
            outputs.append(relu_(layer.forward(inputs, block=block)))
        return outputs

    def reduced(self, outputs: list[Tensor]) -> Tensor:
        """Return the reduced cells, [R, M, K'], given every layer's outputs."""
        last = outputs[-1]
        if self._num_remaining == 1:
            return last
        replicates, _, columns = last.shape
        return last.view(replicates, -1, self._num_remaining, columns).mean(dim=2)

    def backward(
        self, rows: Tensor, outputs: list[Tensor], grad: Tensor, *, into: Parameters
    ) -> None:
        """Add the gradients of the parameters.

        Args:
            rows: The cells, [R, M].
            outputs: What ``forward`` returned for them.
            grad: Gradient of the reduced cells, [R, M, K']; overwritten.
            into: Where gradients are noted.
        """
        if self._num_remaining > 1:
            grad = grad.div_(self._num_remaining).repeat_interleave(self._num_remaining, dim=1)
        for i, layer in reversed(list(enumerate(self._layers))):
            relu_backward_(grad, outputs[i])
            inputs = self._inputs(i, rows if i == 0 else outputs[i - 1])
            layer.add_gradients(inputs, grad, into=into)
            if i > 0:
                grad = self._input_gradient(i, grad, like=outputs[i - 1])

    @property
    def _num_remaining(self) -> int:
        return self._sizes[-1].num_positions if self._sizes[-1] else 1

    def _inputs(self, layer: int, source: Tensor) -> Tensor:
        """Return what a layer is applied to: cells of the table, or the layer's before."""
        if layer == 0:
            shape = (source.shape[0], source.shape[1] * self._table.num_positions)
            features = self._lend("features", *shape, self._table.width)
            if self._gathered is not source:
                self._table.gather(source, out=features)
                self._gathered = source
            source = features
        size = self._sizes[layer]
        if size is None:
            return source
        num_cells = source.shape[1] // size.num_positions
        shape = (source.shape[0], num_cells * size.convolved.num_positions)
        return to_windows(source, size, out=self._lend("windows", *shape, 4 * source.shape[2]))

    def _input_gradient(self, layer: int, grad: Tensor, *, like: Tensor) -> Tensor:
        grad = self._layers[layer].input_gradient(grad)
        size = self._sizes[layer]
        if size is None:
            return grad
        return from_windows(grad, size, out=self._lend(f"position gradient {layer}", *like.shape))

    def _lend(self, name: str, *shape: int) -> Tensor:
        return self._workspace.take(name, shape, self._table.dtype)
