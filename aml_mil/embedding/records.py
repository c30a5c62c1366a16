"""What a run reports while it goes on, and at its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aml_mil.cohort import Copies

Phase = Literal["embed", "check", "refresh", "precision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedProgress:
    """State after a batch, or, while checking, after a patient.

    Attributes:
        phase: ``embed`` missing patients, ``check`` those in the store, ``refresh`` changed ones,
            ``precision`` where cells are encoded again in fp32.
        cells_done: Files of this phase encoded or set aside (checking: hashed).
        cells_total: Files of this phase.
        patients_done: Patients of this phase committed, failed or checked.
        patients_total: Patients of this phase; of several stores, once for each.
        store: Name of the store; "" while all are filled.
    """

    phase: Phase
    cells_done: int
    cells_total: int
    patients_done: int
    patients_total: int
    store: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedCell:
    """A damaged file that was set aside."""

    patient_id: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.patient_id}/{self.file}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPatient:
    """A patient whose bag was made from other files, labels or annotations than there are now."""

    patient_id: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.patient_id}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPatient:
    """A patient that could not be embedded."""

    patient_id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.patient_id}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionCheck:
    """How far stored features are from fp32, over all views of the cells compared.

    Attributes:
        num_cells: Cells compared.
        min_cosine: Between the stored features of a cell and those in fp32; the smallest.
        max_abs_error: Of one feature; the largest.
    """

    num_cells: int
    min_cosine: float
    max_abs_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSummary:
    """What a run did, and what it left as it was.

    Attributes:
        store_path: Where the features are.
        store_bytes: Size of the store on disk.
        patients_embedded: Bags committed by this run, refreshed ones not counted.
        patients_skipped: Patients of the cohort that were in the store already.
        cells_embedded: Cells in the bags this run committed, refreshed ones too.
        cells_skipped: Cells in the bags that were there and stayed.
        quarantined: Damaged files of all patients in the store, of this run and earlier ones.
        copies: Files with the same bytes, among all usable files of the cohort.
        changed: Patients whose bag no longer fits their files; untouched.
        vanished: Ids of bags without a patient in the cohort; untouched.
        refreshed: Changed patients that were embedded again.
        dropped: Ids of vanished patients whose bags were removed.
        failed: Patients that are not in the store, and why.
        engine: What encoded: torch or openvino.
        compute_dtype: Arithmetic of the encoder.
        stain_reference: Mean and s.d. of R, G, B that each patient was brought to, [6]; None where
            stains were left as they are.
        precision: Comparison with fp32, where it was asked for and there were cells to compare.
        images_per_s: Cells embedded per second of the embedding alone; 0 where none were.
        num_processes: That shared the work.
        seconds: Of the whole run.
    """

    store_path: Path
    store_bytes: int
    patients_embedded: int
    patients_skipped: int
    cells_embedded: int
    cells_skipped: int
    quarantined: tuple[QuarantinedCell, ...]
    copies: tuple[Copies, ...]
    changed: tuple[ChangedPatient, ...]
    vanished: tuple[str, ...]
    refreshed: tuple[ChangedPatient, ...]
    dropped: tuple[str, ...]
    failed: tuple[FailedPatient, ...]
    engine: str
    compute_dtype: str
    stain_reference: tuple[float, ...] | None
    precision: PrecisionCheck | None
    images_per_s: float
    num_processes: int
    seconds: float

    @property
    def needs_attention(self) -> bool:
        """Whether the store and the cohort disagree: changed or vanished patients were left."""
        return bool(self.changed or self.vanished)
