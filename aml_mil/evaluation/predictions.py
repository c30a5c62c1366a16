"""Predicted probabilities of a run, one row per patient and replicate.

Shapes: n rows, C classes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aml_mil.evaluation.errors import EvaluationError

Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = ("train", "validation", "test")
KEY_COLUMNS = ("patient_id", "label", "fold", "seed", "role")
PROBABILITY_PREFIX = "prob_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What every replicate says about every patient it was applied to.

    Attributes:
        classes: Names of the classes, in the order of the probabilities.
        patient_ids: Patient of each row.
        targets: Class of each row's patient, as a place in ``classes``, [n].
        folds: Fold of the replicate, [n].
        seeds: Seed of the replicate, [n].
        roles: What the patient was to the replicate.
        probabilities: [n, C]; each row sums to 1.
    """

    classes: tuple[str, ...]
    patient_ids: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]
    roles: tuple[Role, ...]
    probabilities: npt.NDArray[np.float64]

    def of_role(self, role: Role) -> "Predictions":
        """Return the rows of one role."""
        return self.take([i for i, r in enumerate(self.roles) if r == role])

    def of_replicate(self, fold: int, seed: int) -> "Predictions":
        """Return the rows of one replicate."""
        return self.take(np.flatnonzero((self.folds == fold) & (self.seeds == seed)).tolist())

    def take(self, rows: Sequence[int]) -> "Predictions":
        """Return some of the rows."""
        index = np.asarray(rows, dtype=np.int64)
        return Predictions(
            classes=self.classes,
            patient_ids=tuple(self.patient_ids[i] for i in rows),
            targets=self.targets[index],
            folds=self.folds[index],
            seeds=self.seeds[index],
            roles=tuple(self.roles[i] for i in rows),
            probabilities=self.probabilities[index],
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Put rows of the same classes one after the other."""
    return Predictions(
        classes=parts[0].classes,
        patient_ids=tuple(p for part in parts for p in part.patient_ids),
        targets=np.concatenate([part.targets for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        seeds=np.concatenate([part.seeds for part in parts]),
        roles=tuple(r for part in parts for r in part.roles),
        probabilities=np.concatenate([part.probabilities for part in parts]),
    )


def prediction_rows(predictions: Predictions) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of predictions.csv; probabilities keep every bit."""
    p = predictions
    header = [*KEY_COLUMNS, *(f"{PROBABILITY_PREFIX}{name}" for name in p.classes)]
    rows = [
        [
            p.patient_ids[i],
            p.classes[p.targets[i]],
            str(p.folds[i]),
            str(p.seeds[i]),
            p.roles[i],
            *(repr(float(value)) for value in p.probabilities[i]),
        ]
        for i in range(len(p.patient_ids))
    ]
    return header, rows


def read_predictions(path: str | Path) -> Predictions:
    """Read a predictions.csv.

    Raises:
        EvaluationError: The file is missing, or not as fit-mil writes it.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (FileNotFoundError, ValueError) as error:
        raise EvaluationError(f"expected predictions in {path}, found none") from error
    count = len(KEY_COLUMNS)
    if tuple(header[:count]) != KEY_COLUMNS or not all(
        name.startswith(PROBABILITY_PREFIX) for name in header[count:]
    ):
        raise EvaluationError(
            f"{path}: expected the columns {', '.join(KEY_COLUMNS)}, {PROBABILITY_PREFIX}<class>…, "
            f"got {', '.join(header)}"
        )
    classes = tuple(name.removeprefix(PROBABILITY_PREFIX) for name in header[count:])
    try:
        return _parse(rows, classes)
    except (ValueError, IndexError) as error:
        raise EvaluationError(f"{path}: a row is not as fit-mil writes it ({error})") from error


def _parse(rows: Sequence[Sequence[str]], classes: tuple[str, ...]) -> Predictions:
    roles: dict[str, Role] = {role: role for role in ROLES}
    unknown = {row[4] for row in rows} - set(roles)
    if unknown:
        raise ValueError(f"unknown role {min(unknown)!r}")
    count = len(KEY_COLUMNS)
    probabilities = np.array([row[count:] for row in rows], dtype=np.float64)
    return Predictions(
        classes=classes,
        patient_ids=tuple(row[0] for row in rows),
        targets=np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
        folds=np.array([row[2] for row in rows], dtype=np.int64),
        seeds=np.array([row[3] for row in rows], dtype=np.int64),
        roles=tuple(roles[row[4]] for row in rows),
        probabilities=probabilities.reshape(len(rows), len(classes)),
    )
