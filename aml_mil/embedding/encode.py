"""One pass over the cells of some patients: decode, encode, commit bag after bag."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import Cell, Patient
from aml_mil.embedding.assembly import Assembly, PatientInProgress
from aml_mil.embedding.cells import LoadedCell, load_cell
from aml_mil.embedding.errors import DamagedCellError
from aml_mil.embedding.parallel import map_ahead
from aml_mil.embedding.records import EmbedProgress, FailedPatient, Phase, QuarantinedCell
from stores import JSON, Bag, BagExistsError, InvalidBagError


class EncodingPass:
    """Embeds patients in one stream of cells; batches cross the borders between patients.

    A bag is committed before the next batch is encoded. A killed run therefore loses at most the
    work on one patient and one batch.

    Args:
        patients: In the order in which to embed them.
        phase: For the progress.
        encode: Takes a batch of images, [B, S, S, 3], and the ids of the patients they are of;
            gives features of all views, [V, B, D…].
        batch_size: Images in every batch.
        image_size_px: Side of every image.
        workers: Threads that read and decode.
        strict: Stop at the first damaged file.
        commit: Takes a finished bag.
        log: Takes an event for the store's log.

    Attributes:
        committed: Patient id → number of cells in its bag.
        taken: The same for patients that another process committed in the meantime.
        failed: Patients that could not become a bag.
        quarantined: Damaged files of patients in `committed` or `taken`.
        hashes: (patient id, instance id, SHA-256 hex) of their usable files.
        seconds: How long the pass took.
    """

    def __init__(
        self,
        patients: Sequence[Patient],
        *,
        phase: Phase,
        encode: Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]],
        batch_size: int,
        image_size_px: int,
        workers: int,
        strict: bool,
        commit: Callable[[Bag], None],
        log: Callable[[dict[str, JSON]], None],
    ) -> None:
        self.committed: dict[str, int] = {}
        self.taken: dict[str, int] = {}
        self.failed: list[FailedPatient] = []
        self.quarantined: list[QuarantinedCell] = []
        self.hashes: list[tuple[str, str, str]] = []
        self.seconds = 0.0
        self._patients = patients
        self._num_files = sum(len(patient.cells) for patient in patients)
        self._phase: Phase = phase
        self._encode = encode
        self._image_size_px = image_size_px
        self._workers = workers
        self._lookahead = 2 * batch_size + workers
        self._strict = strict
        self._commit = commit
        self._log = log
        self._assembly = Assembly(batch_size=batch_size, image_size_px=image_size_px)

    def __iter__(self) -> Iterator[EmbedProgress]:
        """Embed; yields after every batch; nothing where there are no patients."""
        if not self._patients:
            return
        for patient in self._patients:
            if not patient.cells:
                self._fail(patient.patient_id, "it has no images")
        started = time.perf_counter()
        num_seen = 0
        with closing(self._load()) as cells:
            for loaded in cells:
                num_seen += 1
                self._admit(loaded)
                if self._assembly.is_full:
                    self._encode_batch()
                    yield self._progress(num_seen)
        self._encode_batch()
        self.seconds = time.perf_counter() - started
        yield self._progress(num_seen)

    def _load(self) -> Generator[LoadedCell, None, None]:
        def load(item: tuple[Patient, Cell]) -> LoadedCell:
            return load_cell(*item, image_size_px=self._image_size_px)

        pairs = ((patient, cell) for patient in self._patients for cell in patient.cells)
        return map_ahead(load, pairs, workers=self._workers, lookahead=self._lookahead)

    def _admit(self, loaded: LoadedCell) -> None:
        if loaded.damage and self._strict:
            where = f"{loaded.patient.patient_id}/{loaded.cell.instance_id}"
            message = (
                f"damaged file {where}: {loaded.damage}; repair or remove it, or leave out "
                "--strict to set damaged files aside"
            )
            raise DamagedCellError(message)
        self._assembly.add(loaded)

    def _encode_batch(self) -> None:
        if self._assembly.num_waiting:
            features = self._encode(self._assembly.images, self._assembly.patient_ids)
            self._log({"event": "batch", "images": self._assembly.num_waiting})
            self._assembly.distribute(features)
        for finished in self._assembly.take_complete():
            self._finish(finished)

    def _finish(self, finished: PatientInProgress) -> None:
        patient_id = finished.patient.patient_id
        if finished.failure:
            self._fail(patient_id, finished.failure)
            return
        try:
            self._commit(finished.to_bag())
        except InvalidBagError as error:
            self._fail(patient_id, error.reason)
            return
        except BagExistsError:
            self.taken[patient_id] = len(finished.cells)
        else:
            self.committed[patient_id] = len(finished.cells)
            self._log_bag(finished)
        damaged = {item.file: item.reason for item in finished.quarantined}
        self.quarantined += [
            QuarantinedCell(patient_id=patient_id, file=file, reason=reason)
            for file, reason in damaged.items()
        ]
        self.hashes += [
            (patient_id, name, sha256) for name, sha256 in finished.hashes if name not in damaged
        ]

    def _log_bag(self, finished: PatientInProgress) -> None:
        self._log(
            {
                "event": "bag",
                "bag_id": finished.patient.patient_id,
                "cells": len(finished.cells),
                "quarantined": len(finished.quarantined),
            }
        )

    def _fail(self, patient_id: str, reason: str) -> None:
        self.failed.append(FailedPatient(patient_id=patient_id, reason=reason))
        self._log({"event": "failed", "bag_id": patient_id, "reason": reason})

    def _progress(self, num_seen: int) -> EmbedProgress:
        return EmbedProgress(
            phase=self._phase,
            cells_done=num_seen,
            cells_total=self._num_files,
            patients_done=len(self.committed) + len(self.failed) + len(self.taken),
            patients_total=len(self._patients),
        )
