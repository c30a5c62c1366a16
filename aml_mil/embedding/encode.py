"""From a stream of cells to one store: batch, encode, commit bag after bag."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import Patient
from aml_mil.embedding.assembly import Assembly, Batch, PatientInProgress
from aml_mil.embedding.cells import LoadedCell
from aml_mil.embedding.errors import DamagedCellError
from aml_mil.embedding.outcome import Encoded
from aml_mil.embedding.records import FailedPatient, QuarantinedCell
from stores import JSON, Bag, BagExistsError, InvalidBagError

MAX_UNDER_WAY = 2
"""Batches that are encoded or wait for it, so that the encoder never waits for the writer."""

MAX_WAITING_BYTES = 2**25
"""Features beyond which a patient is written before the next is begun, who would lie beside it."""


class EncodingPass:
    """Embeds patients from a stream of their cells; batches cross the borders between patients.

    While one batch is encoded, the next is filled, and the bag of a patient is committed. A killed
    run loses at most the work on two patients and three batches.

    Args:
        patients: Whose bags are to be made.
        prepare: Makes ready to encode, and gives how many batches are encoded at once; called if
            there is anything to encode, while no pass encodes.
        encode: Takes a batch of images, [B, S, S, 3], and the ids of the patients they are of;
            gives features of all views, [V, B, D…].
        new_images: Makes memory for a batch of images.
        batch_size: Images in every batch.
        dtype: Of the stored features.
        strict: Stop at the first damaged file.
        only_types: Whether the cells are those of some types alone.
        commit: Takes a finished bag.
        log: Takes an event for the store's log.

    Attributes:
        patients: As given.
        batch_size: As given.
        done: What was embedded so far.
    """

    def __init__(
        self,
        patients: Sequence[Patient],
        *,
        prepare: Callable[[], int],
        encode: Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]],
        new_images: Callable[[], NDArray[np.uint8]],
        batch_size: int,
        dtype: str,
        strict: bool,
        only_types: bool,
        commit: Callable[[Bag], None],
        log: Callable[[dict[str, JSON]], None],
    ) -> None:
        self.patients = tuple(patients)
        self.batch_size = batch_size
        self.done = Encoded()
        self._wanted = {patient.patient_id for patient in patients}
        self._prepare = prepare
        self._encode = encode
        self._strict = strict
        self._no_cells = "it has no cell of these types" if only_types else "it has no images"
        self._commit = commit
        self._log = log
        self._assembly = Assembly(new_images=new_images, dtype=dtype)
        self._under_way: deque[tuple[Batch, Future[NDArray[np.float32]]]] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._written: tuple[PatientInProgress, Future[None]] | None = None

    def begin(self) -> None:
        """Make ready to encode, and fail the patients of whom no cell will come."""
        if any(patient.cells for patient in self.patients):
            num_at_once = min(self._prepare(), MAX_UNDER_WAY)
            self._threads = ThreadPoolExecutor(num_at_once, thread_name_prefix="encoder")
        for patient in self.patients:
            if not patient.cells:
                self._fail(patient.patient_id, self._no_cells)

    def take(self, loaded: LoadedCell) -> bool:
        """Take in one file; the cells of a patient come in their order.

        Returns:
            Whether a batch was full and is on its way.

        Raises:
            DamagedCellError: The file is damaged, and the pass is strict.
        """
        if loaded.patient.patient_id not in self._wanted:
            return False
        self._admit(loaded)
        if not self._assembly.is_full:
            return False
        self._send_batch()
        return True

    def end(self) -> None:
        """Encode what is left, and commit all."""
        self._send_batch()
        while self._under_way:
            self._distribute(*self._under_way.popleft())
        self._commit_complete()
        self._settle()

    def close(self) -> None:
        """Let go of the threads; what is not encoded yet stays undone."""
        self._writer.shutdown(wait=True, cancel_futures=True)
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _admit(self, loaded: LoadedCell) -> None:
        if loaded.damage and self._strict:
            where = f"{loaded.patient.patient_id}/{loaded.cell.instance_id}"
            message = (
                f"damaged file {where}: {loaded.damage}; repair or remove it, or leave out "
                "--strict to set damaged files aside"
            )
            raise DamagedCellError(message)
        self._assembly.add(loaded)

    def _send_batch(self) -> None:
        batch = self._assembly.take_batch()
        if batch is None:
            return
        encoded = None
        if len(self._under_way) == MAX_UNDER_WAY:
            encoded = self._under_way.popleft()
            encoded[1].result()
        assert self._threads is not None
        future = self._threads.submit(self._encode, batch.images, batch.patient_ids)
        self._under_way.append((batch, future))
        if encoded is not None:
            self._distribute(*encoded)

    def _distribute(self, batch: Batch, features: Future[NDArray[np.float32]]) -> None:
        """Hand out the features of a batch, once it is encoded, and commit who is complete."""
        self._assembly.distribute(batch, features.result())
        self._log({"event": "batch", "images": len(batch.owners)})
        self._commit_complete()

    def _commit_complete(self) -> None:
        if self._written is not None and self._written[1].done():
            self._settle()
        for finished in self._assembly.take_complete():
            if finished.failure:
                self._fail(finished.patient.patient_id, finished.failure)
                continue
            self._settle()
            self._written = finished, self._writer.submit(self._write, finished)
            if finished.features.num_bytes > MAX_WAITING_BYTES:
                self._settle()

    def _write(self, finished: PatientInProgress) -> None:
        self._commit(finished.to_bag())

    def _settle(self) -> None:
        """Take down what became of the bag that was given to the writer."""
        if self._written is None:
            return
        finished, written = self._written
        self._written = None
        patient_id = finished.patient.patient_id
        try:
            written.result()
        except InvalidBagError as error:
            self._fail(patient_id, error.reason)
            return
        except BagExistsError:
            self.done.taken[patient_id] = len(finished.cells)
        else:
            self.done.committed[patient_id] = len(finished.cells)
            self._log_bag(finished)
        damaged = {item.file: item.reason for item in finished.quarantined}
        self.done.quarantined += [
            QuarantinedCell(patient_id=patient_id, file=file, reason=reason)
            for file, reason in damaged.items()
        ]
        self.done.hashes[patient_id] = finished.hashes.without(damaged)

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
        self.done.failed.append(FailedPatient(patient_id=patient_id, reason=reason))
        self._log({"event": "failed", "bag_id": patient_id, "reason": reason})
