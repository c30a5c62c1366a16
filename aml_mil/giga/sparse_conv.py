"""Convolution over the occupied squares of a grid, in plain torch operations.

Shapes: S occupied squares (sites) of all sets, B sets, C channels in, O channels out.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

KERNEL = 3


class Sites(NamedTuple):
    """Occupied squares, each once.

    Attributes:
        squares: Set, row and column of each, [S, 3] int64, sorted.
        features: [S, C].
    """

    squares: Tensor
    features: Tensor


def place_on_grid(features: Tensor, places: Tensor, *, step: float) -> Sites:
    """Put cells into squares; cells of one square are averaged.

    Args:
        features: [B, k, C].
        places: [B, k, 2].
        step: Side of a square, in the units of the places.

    Returns:
        The occupied squares; rows and columns of each set begin at 0.
    """
    num_sets, num_cells = places.shape[:2]
    squares = torch.floor(places / step).long()
    squares = squares - squares.amin(1, keepdim=True)
    owner = torch.arange(num_sets, device=places.device).repeat_interleave(num_cells)
    every = torch.cat([owner[:, None], squares.flatten(0, 1)], dim=1)
    found, inverse = torch.unique(every, dim=0, return_inverse=True)
    return Sites(found, mean_by(features.flatten(0, 1), inverse, num_groups=len(found)))


class SparseConv(nn.Module):
    """A 3x3 convolution that reads and writes occupied squares only.

    Where the stride is 1 the occupied squares stay; a stride of 2 halves rows and columns, and a
    square is occupied if one of its four was. Empty squares count as zeros.

    Args:
        num_inputs: C.
        num_outputs: O.
        stride: 1 or 2.

    Attributes:
        weight: [O, 9 * C]: the rows of the kernel one after the other, channels innermost.

    Source:
        Graham et al. 2018, section 3, https://arxiv.org/abs/1711.10275
    """

    def __init__(self, num_inputs: int, num_outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(num_outputs, KERNEL * KERNEL * num_inputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, sites: Sites) -> Sites:
        """Convolve, [S, C] → [S', O]."""
        targets = downsample(sites.squares)[0] if self.stride == 2 else sites.squares
        index = _neighbours(sites.squares, targets, stride=self.stride)  # [S', 9]
        padded = torch.cat([sites.features, sites.features.new_zeros(1, sites.features.shape[1])])
        return Sites(targets, linear(padded[index].flatten(1), self.weight))


def downsample(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Halve rows and columns.

    Args:
        squares: [S, 3].

    Returns:
        The squares that are left, each once, [S', 3], and which of them each square fell into, [S].
    """
    halved = torch.cat([squares[:, :1], squares[:, 1:] // 2], dim=1)
    left, parents = torch.unique(halved, dim=0, return_inverse=True)
    return left, parents


def mean_by(features: Tensor, groups: Tensor, *, num_groups: int) -> Tensor:
    """Average the rows of each group, [S, C] → [num_groups, C]; no group is empty."""
    summed = features.new_zeros(num_groups, features.shape[1]).index_add(0, groups, features)
    return summed / torch.bincount(groups, minlength=num_groups)[:, None]


def _neighbours(sources: Tensor, targets: Tensor, *, stride: int) -> Tensor:
    """Find which source lies at each place of each target's kernel, [S', 9]; S where none does."""
    # A margin of one square, so that no key of a neighbour is another square's.
    height, width = (int(n) + 3 for n in sources[:, 1:].amax(0))

    def keys(squares: Tensor) -> Tensor:
        return (squares[:, 0] * height + squares[:, 1] + 1) * width + squares[:, 2] + 1

    known = keys(sources)
    centres = torch.cat([targets[:, :1], targets[:, 1:] * stride], dim=1)
    steps = torch.arange(KERNEL, device=sources.device) - KERNEL // 2
    shifts = (steps[:, None] * width + steps[None]).flatten()
    wanted = keys(centres)[:, None] + shifts
    place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return torch.where(known[place] == wanted, place, len(known))
