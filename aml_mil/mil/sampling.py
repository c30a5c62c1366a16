"""What a replicate draws: bags, cells and views of an epoch, and the seed of its initial weights.

Each is a pure function of (seed, fold, epoch) and of the replicate's own training bags: which
other replicates train beside it, and who is in its test fold, cannot change a draw.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_mil.mil.config import Sampling

IntArray = npt.NDArray[np.int64]

_DRAW_STREAM = 1
_WEIGHT_STREAM = 2
_DROPOUT_STREAM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDraw:
    """The bags of one replicate's epoch in the order they are trained on.

    Attributes:
        bags: Drawn bags, [n].
        sizes: Cells drawn from each, [n].
        cells: Index of each drawn cell within its bag, [sum of sizes], ascending in a bag.
        views: Stored view each drawn cell is read from, [sum of sizes].
    """

    bags: IntArray
    sizes: IntArray
    cells: IntArray
    views: IntArray


def draw_epoch(
    *,
    train: IntArray,
    targets: IntArray,
    bag_sizes: IntArray,
    num_views: int,
    one_view_a_bag: bool = False,
    max_cells: int,
    sampling: Sampling = "balanced",
    seed: int,
    fold: int,
    epoch: int,
) -> EpochDraw:
    """Draw the bags of an epoch, the cells of each bag and the view of each cell.

    As many bags as there are training bags: with replacement, each class equally likely, or, in
    natural sampling, each bag once. A bag longer than ``max_cells`` gives that many cells without
    replacement. Each cell, or each bag as a whole, comes from one of the stored views, all equally
    likely.

    Args:
        train: Training bags of the replicate, [n].
        targets: Class of every bag of the cohort.
        bag_sizes: Cells of every bag of the cohort.
        num_views: Stored views, the identity among them.
        one_view_a_bag: Whether all cells of a drawn bag come from the same view.
        max_cells: Most cells of a bag.
        sampling: How bags are drawn.
        seed: Seed of the replicate.
        fold: Fold of the replicate.
        epoch: Epoch, counted from 0.
    """
    rng = np.random.default_rng(np.random.SeedSequence([_DRAW_STREAM, seed, fold, epoch]))
    bags = _draw_balanced(rng, train, targets) if sampling == "balanced" else rng.permutation(train)
    cells = [_draw_cells(rng, int(bag_sizes[bag]), max_cells) for bag in bags]
    sizes = np.minimum(bag_sizes[bags], max_cells)
    num_drawn = len(sizes) if one_view_a_bag else int(sizes.sum())
    views = rng.integers(num_views, size=num_drawn)
    return EpochDraw(
        bags=bags,
        sizes=sizes,
        cells=np.concatenate(cells),
        views=np.repeat(views, sizes) if one_view_a_bag else views,
    )


class CellDropout:
    """Draw which reduced features of an epoch's cells are dropped, cell after cell.

    Args:
        share: Of the features, those that are dropped.
        seed: Seed of the replicate.
        fold: Fold of the replicate.
        epoch: Epoch, counted from 0.
    """

    def __init__(self, share: float, *, seed: int, fold: int, epoch: int) -> None:
        self._share = share
        self._rng = np.random.default_rng([_DROPOUT_STREAM, seed, fold, epoch])

    def factors(self, num_cells: int, num_features: int) -> npt.NDArray[np.float32]:
        """Return what the next cells are multiplied by, 0 or 1 / (1 - share), [cells, features]."""
        drawn = self._rng.random((num_cells, num_features), dtype=np.float32)
        return (drawn >= self._share).astype(np.float32) / np.float32(1 - self._share)


def weight_seed(*, seed: int, fold: int) -> int:
    """Return the seed of a replicate's initial weights, the same for every cohort and config."""
    state = np.random.SeedSequence([_WEIGHT_STREAM, seed, fold]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _draw_balanced(rng: np.random.Generator, train: IntArray, targets: IntArray) -> IntArray:
    classes, class_of, counts = np.unique(targets[train], return_inverse=True, return_counts=True)
    probability = 1 / (len(classes) * counts[class_of])
    return train[rng.choice(len(train), size=len(train), p=probability)]


def _draw_cells(rng: np.random.Generator, bag_size: int, max_cells: int) -> IntArray:
    if bag_size <= max_cells:
        return np.arange(bag_size)
    return np.sort(rng.choice(bag_size, size=max_cells, replace=False, shuffle=False))
