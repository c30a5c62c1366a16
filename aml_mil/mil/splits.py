"""CLAM's ``splits_{i}.csv``: the patients of each fold by role, given rather than made.

One file a fold, with columns ``train``, ``val`` and ``test`` of differing lengths. Where folds.csv
gives each patient one fold, splits may leave patients out.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from glob import escape
from itertools import zip_longest
from pathlib import Path

from natsort import natsorted

from aml_mil.cohort.errors import FoldsError, name_some
from aml_mil.cohort.folds import FoldRoles
from aml_mil.cohort.tables import read_table

COLUMNS = ("train", "val", "test")
FILE_NAME = "splits_{i}.csv"


def is_splits(path: Path) -> bool:
    """Whether a path names splits: a folder of them, or a file name with ``{i}``."""
    return path.is_dir() or "{i}" in path.name


def read_splits(path: Path) -> tuple[FoldRoles, ...]:
    """Read the splits, numbered from 0.

    Args:
        path: Folder of ``splits_{i}.csv``, or a path with ``{i}`` in the file name.

    Raises:
        FoldsError: There are none, one is missing, or a role of one is empty.
        TableError: A file or a column cannot be read.
    """
    pattern = path / FILE_NAME if path.is_dir() else path
    before, _, behind = pattern.name.partition("{i}")
    numbers = {
        int(number)
        for file in pattern.parent.glob(f"{escape(before)}*{escape(behind)}")
        if (number := file.name.removeprefix(before).removesuffix(behind)).isdecimal()
    }
    if missing := sorted(set(range(max(numbers, default=0) + 1)) - numbers):
        named = ", ".join(pattern.name.replace("{i}", str(i)) for i in missing)
        raise FoldsError(
            f"expected {pattern.name} from 0 without a gap in {pattern.parent}, found "
            f"{len(numbers)} of them and no {named}"
        )
    return tuple(_read_split(pattern.with_name(f"{before}{i}{behind}")) for i in sorted(numbers))


def format_split(roles: FoldRoles) -> str:
    """Return the text of a fold's file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("", *COLUMNS))
    columns = (roles.train, roles.validation, roles.test)
    for i, row in enumerate(zip_longest(*columns, fillvalue="")):
        writer.writerow((i, *row))
    return text.getvalue()


def check_splits(splits: Sequence[FoldRoles], ids: Collection[str]) -> None:
    """Refuse splits of other patients, and those that no figure could be computed from.

    Args:
        splits: Patients by role, per fold.
        ids: Patients of the store.

    Raises:
        FoldsError: A patient is not in the store, has two roles in a fold, or is tested twice.
    """
    tested: Counter[str] = Counter()
    for fold, roles in enumerate(splits):
        everyone = (*roles.train, *roles.validation, *roles.test)
        if unknown := natsorted(set(everyone) - set(ids)):
            raise FoldsError(
                f"split {fold} names patients that the store does not hold: "
                f"{name_some(unknown, total=len(everyone))}; give the splits of this cohort"
            )
        if twice := natsorted(p for p, count in Counter(everyone).items() if count > 1):
            raise FoldsError(f"split {fold} names patients twice: {name_some(twice)}")
        tested.update(roles.test)
    if again := natsorted(p for p, count in tested.items() if count > 1):
        raise FoldsError(
            f"patients are tested in several splits: {name_some(again, total=len(tested))}; "
            "give splits whose test parts share no patient"
        )


def _read_split(file: Path) -> FoldRoles:
    rows = read_table(file, required=COLUMNS).rows
    columns = [tuple(sorted(row[name] for row in rows if row[name])) for name in COLUMNS]
    for name, column in zip(COLUMNS, columns, strict=True):
        if not column:
            raise FoldsError(f"expected patients in column {name} of {file}, got none")
    return FoldRoles(train=columns[0], validation=columns[1], test=columns[2])
