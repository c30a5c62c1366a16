"""Stratified folds over patients, as pure seeded functions.

Folds are numbered from 0. With K folds, the heads of fold k are tested on fold k, validated on
fold k+1 mod K, and trained on the rest.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from natsort import natsorted

from aml_mil.cohort.errors import FoldsError, name_some
from aml_mil.cohort.tables import read_table
from aml_mil.files import write_csv

MIN_FOLDS = 3
COLUMNS = ("patient_id", "fold")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRoles:
    """Patients of one fold by role, each in sorted order.

    Attributes:
        train: Patients the head learns from.
        validation: Patients that choose the epoch.
        test: Patients that are only predicted.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(labels: Mapping[str, str], *, num_folds: int, seed: int) -> dict[str, int]:
    """Assign every patient to one fold, stratified by label.

    The result depends on ids, labels and seed alone, not on the order of ``labels``.

    Args:
        labels: Label of every patient, by patient id.
        num_folds: At least 3: one for testing, one for validation, the rest for training.
        seed: Of the shuffling within each label.

    Returns:
        Fold of every patient by patient id, ids sorted.

    Raises:
        ValueError: ``num_folds`` is below 3.
        FoldsError: A label has fewer patients than there are folds, or there are no labels.
    """
    if num_folds < MIN_FOLDS:
        message = (
            f"expected at least {MIN_FOLDS} folds (test, validation, train), got {num_folds}; "
            f"raise the number of folds"
        )
        raise ValueError(message)
    if not labels:
        message = "no labelled patients to make folds of; check the label column of the cohort"
        raise FoldsError(message)
    counts = Counter(labels.values())
    small = [
        f"{label} has {counts[label]}" for label in sorted(counts) if counts[label] < num_folds
    ]
    if small:
        message = (
            f"labels with fewer patients than the {num_folds} folds: {name_some(small)}; "
            "use fewer folds, or embed the cohort without the label (--classes) or with it merged "
            "into another (--merge)"
        )
        raise FoldsError(message)
    ids = sorted(labels)
    from sklearn.model_selection import StratifiedKFold  # Takes longer than all else here.

    splitter = StratifiedKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    folds = {}
    targets = np.array([labels[patient_id] for patient_id in ids])
    for fold, (_, members) in enumerate(splitter.split(np.zeros(len(ids)), targets)):
        folds.update({ids[i]: fold for i in members})
    return {patient_id: folds[patient_id] for patient_id in ids}


def roles_of(folds: Mapping[str, int], fold: int) -> FoldRoles:
    """Split the patients for one fold: test = fold, validation = the next one, train = the rest.

    Args:
        folds: Fold of every patient.
        fold: Which fold is tested, from 0.

    Raises:
        ValueError: ``fold`` is not one of the folds.
    """
    count = count_folds(folds)
    if not 0 <= fold < count:
        message = f"expected a fold from 0 to {count - 1}, got {fold}"
        raise ValueError(message)
    validation = (fold + 1) % count
    ids = sorted(folds)
    return FoldRoles(
        train=tuple(p for p in ids if folds[p] not in (fold, validation)),
        validation=tuple(p for p in ids if folds[p] == validation),
        test=tuple(p for p in ids if folds[p] == fold),
    )


def count_folds(folds: Mapping[str, int]) -> int:
    """Number of folds, which must be numbered 0 … K-1 without a gap.

    Raises:
        FoldsError: There are fewer than 3, or a number is left out.
    """
    numbers = sorted(set(folds.values()))
    if numbers != list(range(len(numbers))):
        found = ", ".join(map(str, numbers[:10]))
        message = f"expected folds numbered from 0 without a gap, got {found}; renumber the column"
        raise FoldsError(message)
    if len(numbers) < MIN_FOLDS:
        message = f"expected at least {MIN_FOLDS} folds, got {len(numbers)}; make folds anew"
        raise FoldsError(message)
    return len(numbers)


def write_folds(path: str | Path, folds: Mapping[str, int]) -> None:
    """Write ``patient_id,fold``, one row a patient, ids in natural order."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_csv(target, COLUMNS, [(patient_id, folds[patient_id]) for patient_id in natsorted(folds)])


def read_folds(path: str | Path) -> dict[str, int]:
    """Read ``patient_id,fold``; ids sorted.

    Raises:
        FoldsError: A fold is no whole number, a patient stands twice, or folds are missing.
        TableError: The file or a column is missing.
    """
    source = Path(path)
    folds: dict[str, int] = {}
    for row in read_table(source, required=COLUMNS).rows:
        patient_id, fold = row["patient_id"], row["fold"]
        if not patient_id or not fold.isdecimal():
            message = (
                f"expected a patient id and a fold number in {source}, got {patient_id!r}, {fold!r}"
            )
            raise FoldsError(message)
        if patient_id in folds:
            message = f"patient {patient_id} stands twice in {source}; keep one row a patient"
            raise FoldsError(message)
        folds[patient_id] = int(fold)
    try:
        count_folds(folds)
    except FoldsError as error:
        message = f"{source}: {error}"
        raise FoldsError(message) from error
    return {patient_id: folds[patient_id] for patient_id in sorted(folds)}


def check_folds(folds: Mapping[str, int], ids: Collection[str]) -> None:
    """Refuse folds that are not of exactly these patients.

    Args:
        folds: Fold of every patient.
        ids: Patients of the cohort or store that the folds are to be used with.

    Raises:
        FoldsError: A patient is without a fold, or a fold names a patient that is not there.
    """
    problems = []
    without = natsorted(set(ids) - set(folds))
    unknown = natsorted(set(folds) - set(ids))
    if without:
        problems.append(f"patients without a fold: {name_some(without, total=len(set(ids)))}")
    if unknown:
        problems.append(f"folds of unknown patients: {name_some(unknown, total=len(folds))}")
    if problems:
        message = f"folds of another cohort; {'; '.join(problems)}; make folds for these patients"
        raise FoldsError(message)
