"""How far a patient's cells are from the training patients: the out-of-distribution statistic.

Shapes: P training patients, N cells of a patient, D features, F folds, T bag sizes.

A patient is described by the mean and the log standard deviation of each feature over the cells,
2D numbers. The statistic is the mean over them of |z|, where z stands in units of the spread over
the training patients. It sees cells of another kind (platelets), no cells at all, and mixtures,
and works with an untrained encoder as well, where distances of single cells do not.

The threshold comes from the training patients, each measured against the others (leave one out):
the value that at most 2% of patients like them exceed, which with fewer than 49 is the largest of
all. Few cells make any mean uncertain, so there is a threshold for each of several bag sizes, from
so many cells drawn from each training patient.

Source:
    Rank of the threshold: Vovk et al. 2005, Algorithmic Learning in a Random World, section 2.2
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FALSE_WARNINGS = 0.02
# Cells that a threshold is for: a bag is held against the largest size that it reaches.
BAG_SIZES = (10, 20, 50, 100, 200)
MIN_CELLS = BAG_SIZES[0]
# Spreads below this share of the mean spread count as so much: a constant feature has none.
SPREAD_FLOOR = 0.01
# Stands for a spread of 0 where patients do not differ at all.
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingPatients:
    """The training patients of every fold, as far as a new patient is held against them.

    Attributes:
        cell_spread: Smallest s.d. over a bag's cells that counts, [F].
        centre: Mean description over the training patients, [F, 2D].
        spread: Its standard deviation, [F, 2D].
        thresholds: Of the statistic, by bag size, [F, T].
        num_patients: Training patients, [F].
    """

    cell_spread: FloatArray
    centre: FloatArray
    spread: FloatArray
    thresholds: FloatArray
    num_patients: npt.NDArray[np.int64]

    @classmethod
    def stack(cls, folds: Sequence[Self]) -> Self:
        """Put folds, each with F = 1, one after the other."""
        return cls(
            **{
                item.name: np.concatenate([getattr(fold, item.name) for fold in folds])
                for item in fields(cls)
            }
        )

    @classmethod
    def are_in(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether a file holds what `to_arrays` returns; older runs wrote none."""
        return all(_PREFIX + item.name in arrays for item in fields(cls))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take from a file what `to_arrays` returned."""
        return cls(**{item.name: arrays[_PREFIX + item.name] for item in fields(cls)})

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by the names that they have in the run folder."""
        return {_PREFIX + item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def false_warnings(self) -> float:
        """Expected share of warnings among patients like the training patients, at most."""
        count = int(self.num_patients.min())
        return (count + 1 - _rank(count)) / (count + 1)

    def distance(self, features: npt.NDArray[Any], *, fold: int) -> float | None:
        """Measure how far a patient is from a fold's training patients.

        Args:
            features: Of the patient's cells, [N, D…], identity view.
            fold: Whose training patients.

        Returns:
            Statistic / threshold, above 1 where the patient is far; None below `MIN_CELLS` cells.
        """
        if len(features) < MIN_CELLS:
            return None
        described = _describe(features, self.cell_spread[fold])
        statistic = _statistic(described, self.centre[fold], self.spread[fold])
        size = max(t for t, size in enumerate(BAG_SIZES) if size <= len(features))
        return float(statistic / self.thresholds[fold, size])


_PREFIX = "patients_"


def measure_training_patients(bags: Sequence[npt.NDArray[Any]]) -> TrainingPatients:
    """Measure the training patients of one fold; the same cells are drawn at every call.

    Args:
        bags: Features of each patient's cells, [N, D…]; of a single patient nobody is far.

    Returns:
        One fold, F = 1.
    """
    rng = np.random.default_rng(0)
    flat = [bag.reshape(len(bag), -1) for bag in bags]
    sds = [bag.std(axis=0, dtype=np.float64).mean() for bag in flat]
    cell_spread = max(SPREAD_FLOOR * float(np.mean(sds)), SMALLEST)
    described = np.stack([_describe(bag, cell_spread) for bag in flat])
    statistics = np.full((len(BAG_SIZES), len(bags)), np.inf)
    for i, bag in enumerate(flat if len(flat) > 1 else ()):
        others = np.delete(described, i, axis=0)
        centre, spread = others.mean(axis=0), _spread(others)
        for t, size in enumerate(BAG_SIZES):
            drawn = bag[rng.permutation(len(bag))[:size]]
            statistics[t, i] = _statistic(_describe(drawn, cell_spread), centre, spread)
    ranked = np.sort(statistics, axis=1)
    return TrainingPatients(
        cell_spread=np.array([cell_spread]),
        centre=described.mean(axis=0)[None],
        spread=_spread(described)[None],
        thresholds=np.maximum(ranked[None, :, _rank(len(bags)) - 1], SMALLEST),
        num_patients=np.array([len(bags)]),
    )


def _describe(features: npt.NDArray[Any], cell_spread: float) -> FloatArray:
    """Return mean and log s.d. of each feature over the cells, [2D]."""
    flat = features.reshape(len(features), -1)
    sd = flat.std(axis=0, dtype=np.float64)
    return np.concatenate([flat.mean(axis=0, dtype=np.float64), np.log(sd + cell_spread)])


def _spread(described: FloatArray) -> FloatArray:
    """Return the s.d. over patients, small ones lifted, means and log s.d. apart, [2D]."""
    halves = described.std(axis=0).reshape(2, -1)
    floors = SPREAD_FLOOR * halves.mean(axis=1, keepdims=True) + SMALLEST
    lifted: FloatArray = np.maximum(halves, floors).ravel()
    return lifted


def _statistic(described: FloatArray, centre: FloatArray, spread: FloatArray) -> float:
    return float(np.abs((described - centre) / spread).mean())


def _rank(num_patients: int) -> int:
    """Return the rank, from 1, of the training statistic that is the threshold."""
    return min(math.ceil((num_patients + 1) * (1 - FALSE_WARNINGS)), num_patients)
