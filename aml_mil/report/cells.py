"""What pages show of a patient: probabilities with their spread, and the cells that counted most.

Shapes: H heads, n cells, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

GALLERY_SIDE_PX = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityRow:
    """The probability of one class: mean, and every head's own."""

    label: str
    mean: float
    heads: tuple[float, ...]

    @property
    def text(self) -> str:
        """Write mean ± s.d. and range."""
        low, high = min(self.heads), max(self.heads)
        if len(self.heads) == 1:
            return f"{self.mean:.2f}"
        sd = np.std(self.heads, ddof=1)
        return f"{self.mean:.2f} ± {sd:.2f} ({low:.2f}–{high:.2f}, {len(self.heads)} heads)"


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryCell:
    """One cell: its picture ("" for none), and how much it counted."""

    name: str
    cell_type: str
    attention: str
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The cells that counted most for a class, highest first."""

    label: str
    cells: tuple[GalleryCell, ...]


def probability_rows(classes: Sequence[str], by_head: FloatArray) -> tuple[ProbabilityRow, ...]:
    """Return a row for each class, most probable first.

    Args:
        classes: C names.
        by_head: Probabilities, [H, C].
    """
    means = by_head.mean(axis=0)
    return tuple(
        ProbabilityRow(label=classes[c], mean=float(means[c]), heads=tuple(by_head[:, c].tolist()))
        for c in np.argsort(-means, kind="stable")
    )


def galleries(
    classes: Sequence[str],
    attention: FloatArray,
    *,
    instance_ids: Sequence[str],
    cell_types: Sequence[str],
    picture: Callable[[str], str],
    count: int,
) -> tuple[Gallery, ...]:
    """Return the most attended cells for each class.

    Args:
        classes: C names.
        attention: Over the cells, each class's sums to 1, [n, C].
        instance_ids: The n cells.
        cell_types: Expert's types, "" where there is none.
        picture: Gives a cell's picture as a data URI, or "".
        count: Cells for each class.
    """
    relative = attention * len(attention)
    return tuple(
        Gallery(
            label=label,
            cells=tuple(
                GalleryCell(
                    name=instance_ids[i],
                    cell_type=cell_types[i],
                    attention=f"attention {relative[i, c]:.1f}×",
                    picture=picture(instance_ids[i]),
                )
                for i in np.argsort(-relative[:, c], kind="stable")[:count]
            ),
        )
        for c, label in enumerate(classes)
    )
