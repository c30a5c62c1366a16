"""A patient as cells with places: the last stage of a ResNet-18, on the occupied squares.

Shapes: B sets of k cells, D features, H dimensions of an embedding, S occupied squares.
"""

from torch import Tensor, nn
from torch.nn.functional import relu

from aml_mil.giga.bags import CellSets
from aml_mil.giga.sparse_conv import (
    Sites,
    SparseConv,
    downsample,
    mean_by,
    place_on_grid,
)


class SparseEncoder(nn.Module):
    """Two residual blocks over the grid, the first with a stride of 2, then the mean.

    Layer norms in place of batch norms: how many squares are occupied differs from set to set.

    Args:
        num_features: D.
        width: H.
        grid_step: Side of a square, in the units of the places.

    Source:
        Lazard et al. 2022, section 3.2, https://arxiv.org/abs/2212.03273
    """

    def __init__(self, num_features: int, *, width: int, grid_step: float) -> None:
        super().__init__()
        self.grid_step = grid_step
        self.blocks = nn.ModuleList(
            [_Block(num_features, width, stride=2), _Block(width, width, stride=1)]
        )

    def forward(self, sets: CellSets) -> Tensor:
        """Encode located sets of cells to vectors, [B, H]."""
        assert sets.places is not None
        sites = place_on_grid(sets.features, sets.places, step=self.grid_step)
        for block in self.blocks:
            sites = block(sites)
        return mean_by(sites.features, sites.squares[:, 0], num_groups=len(sets.features))


class _Block(nn.Module):
    """ResNet's basic block over sites; a shortcut across a stride averages what fell together."""

    def __init__(self, num_inputs: int, num_outputs: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = SparseConv(num_inputs, num_outputs, stride=stride)
        self.second = SparseConv(num_outputs, num_outputs)
        self.norms = nn.ModuleList(nn.LayerNorm(num_outputs) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_inputs != num_outputs:
            self.shortcut = nn.Sequential(
                nn.Linear(num_inputs, num_outputs, bias=False), nn.LayerNorm(num_outputs)
            )

    def forward(self, sites: Sites) -> Sites:
        convolved = self.first(sites)
        inner = Sites(convolved.squares, relu(self.norms[0](convolved.features)))
        outer = self.norms[1](self.second(inner).features)
        passed = sites.features
        if self.stride == 2:
            squares, parents = downsample(sites.squares)
            passed = mean_by(passed, parents, num_groups=len(squares))
        return Sites(inner.squares, relu(outer + self.shortcut(passed)))
