"""Compare the patients that are in a store already with the cohort as it is now."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

from aml_mil.cohort import Cell, FileHashes, Patient
from aml_mil.embedding.cells import LoadedCell, hash_cell
from aml_mil.embedding.changes import describe_changes
from aml_mil.embedding.outcome import Checked
from aml_mil.embedding.parallel import map_ahead
from aml_mil.embedding.records import ChangedPatient, EmbedProgress, QuarantinedCell
from stores import BagDamagedError, FeatureStore

LOOKAHEAD_PER_WORKER = 16


class CheckingPass:
    """Hashes the files of patients again, and tells which bags no longer fit.

    Args:
        patients: Each has a bag in the store.
        store: Only read.
        workers: Threads that read files.

    Attributes:
        done: What was compared so far.
    """

    def __init__(self, patients: Sequence[Patient], *, store: FeatureStore, workers: int) -> None:
        self.done = Checked()
        self._patients = patients
        self._store = store
        self._workers = workers

    def __iter__(self) -> Iterator[EmbedProgress]:
        """Check; yields after every patient."""
        num_files = 0
        cells_total = sum(len(patient.cells) for patient in self._patients)
        with closing(self._load()) as stream:
            for num_patients, patient in enumerate(self._patients, start=1):
                files = list(islice(stream, len(patient.cells)))
                num_files += len(files)
                self._compare(patient, files)
                yield EmbedProgress(
                    phase="check",
                    cells_done=num_files,
                    cells_total=cells_total,
                    patients_done=num_patients,
                    patients_total=len(self._patients),
                )

    def _load(self) -> Generator[LoadedCell, None, None]:
        def load(item: tuple[Patient, Cell]) -> LoadedCell:
            return hash_cell(*item)

        pairs = ((patient, cell) for patient in self._patients for cell in patient.cells)
        lookahead = LOOKAHEAD_PER_WORKER * self._workers
        return map_ahead(load, pairs, workers=self._workers, lookahead=lookahead)

    def _compare(self, patient: Patient, files: list[LoadedCell]) -> None:
        patient_id = patient.patient_id
        errors = [f"{item.cell.instance_id}: {item.io_error}" for item in files if item.io_error]
        hashes = FileHashes.pack((item.cell.instance_id, item.sha256) for item in files)
        if errors:
            reasons: tuple[str, ...] = (
                f"cannot read {errors[0]} ({len(errors)} of {len(files)} files)",
            )
        else:
            reasons = describe_changes(self._store, patient, hashes)
        if reasons:
            self.done.changed.append(ChangedPatient(patient_id=patient_id, reasons=reasons))
        try:
            record = self._store.record(patient_id)
        except BagDamagedError:
            return  # told as a change
        self.done.cells[patient_id] = record.num_instances
        self.done.quarantined += [
            QuarantinedCell(patient_id=patient_id, file=item.file, reason=item.reason)
            for item in record.quarantined
        ]
        damaged = {item.file for item in record.quarantined}
        left_out = damaged.union(item.cell.instance_id for item in files if not item.sha256)
        self.done.hashes[patient_id] = hashes.without(left_out)
