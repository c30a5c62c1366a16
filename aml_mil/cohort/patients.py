"""The cohort in memory: patients, their cells, and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Attribute = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One image file of a patient.

    Attributes:
        instance_id: Posix path relative to the patient's folder; unique within the patient.
        path: Where the file lies.
        smear: Folder below the patient, as a posix path; "" when cells lie directly in it.
        cell_type: Expert's type; "" when there is none.
        coords: Position on the smear in µm (x, y), where it is known.
    """

    instance_id: str
    path: Path
    smear: str = ""
    cell_type: str = ""
    coords: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """One patient: the unit that is split and labelled.

    Attributes:
        patient_id: As written in the table.
        label: Class of the patient; None when it is not known.
        cells: In natural order of their instance ids.
        attributes: Further columns of the metadata, numbers parsed, empty fields as None.
    """

    patient_id: str
    label: str | None
    cells: tuple[Cell, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """All patients of one source, in natural order of their ids.

    Attributes:
        root: Folder of the cohort.
        patients: In natural order of their ids.
        skipped_files: Files among the cells that are no images (hidden, Thumbs.db, …).
        notes: Sentences for the summary: what was joined, filtered, or did not join.
    """

    root: Path
    patients: tuple[Patient, ...]
    skipped_files: int = 0
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """Label of every labelled patient, by patient id."""
        return {p.patient_id: p.label for p in self.patients if p.label is not None}

    @property
    def num_cells(self) -> int:
        """Number of image files, readable or not."""
        return sum(len(patient.cells) for patient in self.patients)

    @property
    def classes(self) -> dict[str, int]:
        """Number of patients of each label, labels sorted."""
        labels = list(self.labels.values())
        return {label: labels.count(label) for label in sorted(set(labels))}
