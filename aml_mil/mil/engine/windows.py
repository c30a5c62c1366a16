"""The 2x2 windows of maps, laid out as rows so that a convolution is a matrix product.

Shapes: R replicates, M cells of a replicate, H and W sides of the map, F columns of a position.
"""

from typing import NamedTuple

from torch import Tensor

TAPS = tuple((y, x) for y in range(2) for x in range(2))


class MapSize(NamedTuple):
    """Sides of a map."""

    height: int
    width: int

    @property
    def num_positions(self) -> int:
        """Positions of the map."""
        return self.height * self.width

    @property
    def convolved(self) -> "MapSize":
        """Sides after a 2x2 convolution without padding."""
        return MapSize(self.height - 1, self.width - 1)


def to_windows(positions: Tensor, size: MapSize, *, out: Tensor) -> Tensor:
    """Copy each window's four positions side by side.

    Args:
        positions: Maps position by position, [R, M * H * W, F].
        size: H and W.
        out: Memory of [R, M * (H - 1) * (W - 1), 4 * F].
    """
    maps, windows = _views(positions, out, size)
    height, width = size.convolved
    for tap, (y, x) in enumerate(TAPS):
        windows[..., tap, :] = maps[:, :, y : y + height, x : x + width]
    return out


def from_windows(windows: Tensor, size: MapSize, *, out: Tensor) -> Tensor:
    """Sum each position's values over the windows that hold it: the derivative of `to_windows`."""
    maps, taps = _views(out.zero_(), windows, size)
    height, width = size.convolved
    for tap, (y, x) in enumerate(TAPS):
        maps[:, :, y : y + height, x : x + width] += taps[..., tap, :]
    return out


def _views(positions: Tensor, windows: Tensor, size: MapSize) -> tuple[Tensor, Tensor]:
    replicates, _, columns = positions.shape
    maps = positions.view(replicates, -1, *size, columns)
    return maps, windows.view(replicates, maps.shape[1], *size.convolved, len(TAPS), columns)
