"""What a view of a patient is: a stored augmentation, a few cells, and a turn of their places.

Every draw is a pure function of its seed, so that runs can be resumed and shared among processes.

Shapes: P patients, B patients of a step, k cells of a set, R draws.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aml_mil.giga.bags import CellSets, IntArray, PatientBags
from aml_mil.runtime import upload

_ORDER_STREAM, _VIEW_STREAM, _EMBED_STREAM = 1, 2, 3
MIN_SCALE, MAX_SCALE = 0.7, 1.3  # Source: G.


class PairDraw(NamedTuple):
    """Two views of each patient of a step.

    Attributes:
        cells: Numbers of the cells, [2, B, k].
        views: Stored view of each patient, [2, B].
        turns: What the places are multiplied by, [2, B, 2, 2].
    """

    cells: IntArray
    views: IntArray
    turns: NDArray[np.float32]

    def take(self, patients: slice) -> "PairDraw":
        """Return some of the patients."""
        return PairDraw(self.cells[:, patients], self.views[:, patients], self.turns[:, patients])


def draw_patients(num_patients: int, *, batch_size: int, seed: int, step: int) -> IntArray:
    """Choose the patients of a step; in an epoch none comes twice.

    Args:
        num_patients: P.
        batch_size: B, at most P; what is left over of an epoch waits for another.
        seed: Of the run.
        step: From 0.

    Returns:
        [B] of 0 to P - 1.
    """
    epoch, within = divmod(step, num_patients // batch_size)
    order = np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(num_patients)
    return order[within * batch_size : (within + 1) * batch_size]


def draw_pair(
    patients: IntArray, offsets: IntArray, *, num_views: int, cells: int, seed: int, step: int
) -> PairDraw:
    """Draw two views of each patient: two stored augmentations, two draws of cells, two turns.

    Args:
        patients: Of the step, [B].
        offsets: First cell of each patient and, last, the number of cells, [P + 1].
        num_views: Stored views; where there are several, the two differ.
        cells: k.
        seed: Of the run.
        step: From 0.
    """
    rng = np.random.default_rng([_VIEW_STREAM, seed, step])
    num = len(patients)
    first = rng.integers(num_views, size=num)
    shift = rng.integers(1, num_views, size=num) if num_views > 1 else np.zeros_like(first)
    both = np.tile(patients, 2)
    chosen = offsets[both][:, None] + _choose(rng, offsets[both + 1] - offsets[both], cells)
    return PairDraw(
        cells=chosen.reshape(2, num, cells),
        views=np.stack([first, (first + shift) % num_views]),
        turns=draw_turns(rng, 2 * num).reshape(2, num, 2, 2),
    )


def gather_pair(bags: PatientBags, draw: PairDraw) -> CellSets:
    """Fetch two views of patients, [2B, k, D]: the first views, then the second.

    Places are turned about the centre of each set.
    """
    sets = bags.gather(np.concatenate(draw.cells), views=np.concatenate(draw.views))
    if sets.places is None:
        return sets
    turns = upload(np.concatenate(draw.turns), sets.places.device).to(sets.places.dtype)
    centred = sets.places - sets.places.mean(1, keepdim=True)
    return CellSets(sets.features, centred @ turns.transpose(1, 2))


def draw_for_embedding(
    patient_id: str, *, num_cells: int, cells: int, num_draws: int, seed: int
) -> IntArray:
    """Draw sets of a patient's cells, the same whichever patients are beside it.

    Args:
        patient_id: Whose.
        num_cells: Cells the patient has.
        cells: k.
        num_draws: R.
        seed: Of the embedding.

    Returns:
        [R, k] of 0 to ``num_cells - 1``.
    """
    rng = np.random.default_rng([_EMBED_STREAM, seed, zlib.crc32(patient_id.encode())])
    return _choose(rng, np.full(num_draws, num_cells), cells)


def draw_turns(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Draw flips, rotations and anisotropic scales of places, [count, 2, 2]."""
    angles = rng.uniform(0, 2 * np.pi, count)
    scales = rng.uniform(MIN_SCALE, MAX_SCALE, (count, 2)) * rng.choice([-1, 1], (count, 2))
    rotations = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
    turns: NDArray[np.float32] = (rotations.transpose(2, 0, 1) * scales[:, None]).astype(np.float32)
    return turns


def _choose(rng: np.random.Generator, sizes: IntArray, cells: int) -> IntArray:
    """Choose cells without replacement; with it where a patient has fewer than are wanted."""
    chosen = _any(rng, sizes, cells)
    # Of many cells a few seldom coincide: drawing again until none do is fair, and faster than
    # ordering all cells of a patient.
    many = sizes >= cells**2
    again = np.flatnonzero(many & _has_twins(chosen))
    while len(again):
        chosen[again] = _any(rng, sizes[again], cells)
        again = again[_has_twins(chosen[again])]
    some = ~many & (sizes >= cells)
    if some.any():
        keys = rng.random((int(some.sum()), int(sizes[some].max())))
        keys[np.arange(keys.shape[1]) >= sizes[some, None]] = np.inf
        chosen[some] = np.argpartition(keys, cells - 1, axis=1)[:, :cells]
    return chosen


def _any(rng: np.random.Generator, sizes: IntArray, cells: int) -> IntArray:
    return rng.integers(sizes[:, None], size=(len(sizes), cells))


def _has_twins(chosen: IntArray) -> NDArray[np.bool_]:
    ordered = np.sort(chosen, axis=1)
    twins: NDArray[np.bool_] = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    return twins
