"""Which labels are known when only some are: fixed, stratified, nested draws.

Shapes: P patients, C classes.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aml_mil.cohort.folds import FoldRoles
from aml_mil.giga.bags import IntArray

MIN_PER_CLASS = 2
# Validation patients are rounded on their own at these: at every share, a training patient could be
# taken back as the share rises.
ROUNDED_PERCENTS = (0, 5, 10, 25, 50, 100)
_STREAM = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelDraw:
    """The patients of one fold whose labels are known.

    Attributes:
        percent: Share of the labels of the fold's training and validation patients.
        fold: Which fold is tested.
        draw: Number of the draw, from 0.
        train: Known training patients.
        validation: Known validation patients.
    """

    percent: int
    fold: int
    draw: int
    train: IntArray
    validation: IntArray

    @property
    def known(self) -> IntArray:
        """All of them."""
        return np.concatenate([self.train, self.validation])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDraws:
    """Draws of all folds and shares.

    Attributes:
        by_percent: Draws by share, for shares that leave enough of every class.
        skipped: Share → what there is too little of.
    """

    by_percent: Mapping[int, tuple[LabelDraw, ...]]
    skipped: Mapping[int, str]


def draw_labels(
    targets: IntArray,
    classes: Sequence[str],
    roles: Sequence[tuple[IntArray, IntArray]],
    *,
    percents: Sequence[int],
    num_draws: int,
    seed: int,
) -> LabelDraws:
    """Draw the labels that are known.

    A share is taken of each class, of training and validation patients together, at least one of
    each role; a smaller share is a part of a larger one of the same draw. All labels are one draw.
    Validation patients are rounded at `ROUNDED_PERCENTS`, and between these in proportion to the
    known patients.

    Args:
        targets: Class of each patient, [P].
        classes: C names.
        roles: Training and validation patients of each fold.
        percents: Shares, 1 to 100.
        num_draws: For each share below 100.
        seed: Of the draws.
    """
    by_percent: dict[int, tuple[LabelDraw, ...]] = {}
    skipped: dict[int, str] = {}
    for percent in percents:
        if reason := _too_few(targets, classes, roles, percent):
            skipped[percent] = reason
            continue
        by_percent[percent] = tuple(
            _draw(targets, roles[fold], percent=percent, fold=fold, draw=draw, seed=seed)
            for fold in range(len(roles))
            for draw in range(num_draws if percent < 100 else 1)
        )
    return LabelDraws(by_percent=by_percent, skipped=skipped)


def role_places(
    roles: Sequence[FoldRoles], patient_ids: Sequence[str]
) -> list[tuple[IntArray, IntArray]]:
    """Turn ids into places: training and validation patients of each fold."""
    place = {patient_id: i for i, patient_id in enumerate(patient_ids)}
    return [
        (
            np.array([place[p] for p in fold.train], dtype=np.int64),
            np.array([place[p] for p in fold.validation], dtype=np.int64),
        )
        for fold in roles
    ]


def _share(percent: int, count: int) -> int:
    """Round to the nearest number of patients, halves up."""
    return (percent * count + 50) // 100


def _validation_share(percent: int, total: int, count: int) -> int:
    """Share out the known patients of a class: how many of them are validation patients.

    Args:
        percent: Share of the labels.
        total: Patients of the class in both roles.
        count: Validation patients of the class.
    """
    place = bisect_left(ROUNDED_PERCENTS, percent)
    above = ROUNDED_PERCENTS[place]
    if percent == above:
        return _share(percent, count)
    below = ROUNDED_PERCENTS[place - 1]
    least, most = _share(below, count), _share(above, count)
    known = _share(percent, total) - _share(below, total)
    step = max(_share(above, total) - _share(below, total), 1)
    return least + (2 * (most - least) * known + step) // (2 * step)


def _too_few(
    targets: IntArray,
    classes: Sequence[str],
    roles: Sequence[tuple[IntArray, IntArray]],
    percent: int,
) -> str:
    for fold, parts in enumerate(roles):
        counts = np.bincount(targets[np.concatenate(parts)], minlength=len(classes))
        for name, count in zip(classes, counts.tolist(), strict=True):
            if (known := _share(percent, count)) < MIN_PER_CLASS:
                return (
                    f"{percent}% of the {count} patients of {name} in training and validation of "
                    f"fold {fold} are {known}, fewer than {MIN_PER_CLASS}"
                )
    return ""


def _draw(
    targets: IntArray,
    parts: tuple[IntArray, IntArray],
    *,
    percent: int,
    fold: int,
    draw: int,
    seed: int,
) -> LabelDraw:
    rng = np.random.default_rng([_STREAM, seed, fold, draw])
    train, validation = (rng.permutation(part) for part in parts)
    known: tuple[list[IntArray], list[IntArray]] = ([], [])
    for target in np.unique(targets):
        own = train[targets[train] == target], validation[targets[validation] == target]
        total = len(own[0]) + len(own[1])
        wanted = _share(percent, total)
        share = _validation_share(percent, total, len(own[1]))
        num_validation = min(max(share, 1), wanted - 1, len(own[1]))
        num_validation = max(num_validation, wanted - len(own[0]))
        known[0].append(own[0][: wanted - num_validation])
        known[1].append(own[1][:num_validation])
    return LabelDraw(
        percent=percent,
        fold=fold,
        draw=draw,
        train=np.sort(np.concatenate(known[0])),
        validation=np.sort(np.concatenate(known[1])),
    )
