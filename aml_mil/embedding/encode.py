"""From a stream of cells to one store: batch, encode, commit bag after bag."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import Patient
from aml_mil.embedding.assembly import Assembly, PatientInProgress
from aml_mil.embedding.cells import LoadedCell
from aml_mil.embedding.errors import DamagedCellError
from aml_mil.embedding.outcome import Encoded
from aml_mil.embedding.records import FailedPatient, QuarantinedCell
from stores import JSON, Bag, BagExistsError, InvalidBagError


class EncodingPass:
    """Embeds patients from a stream of their cells; batches cross the borders between patients.

    A bag is committed before the next batch is encoded. A killed run therefore loses at most the
    work on one patient and one batch.

    Args:
        patients: Whose bags are to be made.
        encode: Takes a batch of images, [B, S, S, 3], and the ids of the patients they are of;
            gives features of all views, [V, B, D…].
        batch_size: Images in every batch.
        image_size_px: Side of every image.
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
        encode: Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]],
        batch_size: int,
        image_size_px: int,
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
        self._encode = encode
        self._strict = strict
        self._no_cells = "it has no cell of these types" if only_types else "it has no images"
        self._commit = commit
        self._log = log
        self._assembly = Assembly(batch_size=batch_size, image_size_px=image_size_px, dtype=dtype)

    def begin(self) -> None:
        """Fail the patients of whom no cell will come."""
        for patient in self.patients:
            if not patient.cells:
                self._fail(patient.patient_id, self._no_cells)

    def take(self, loaded: LoadedCell) -> bool:
        """Take in one file; the cells of a patient come in their order.

        Returns:
            Whether a batch was full and has been encoded.

        Raises:
            DamagedCellError: The file is damaged, and the pass is strict.
        """
        if loaded.patient.patient_id not in self._wanted:
            return False
        self._admit(loaded)
        if not self._assembly.is_full:
            return False
        self._encode_batch()
        return True

    def end(self) -> None:
        """Encode what is left."""
        self._encode_batch()

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
            self.done.taken[patient_id] = len(finished.cells)
        else:
            self.done.committed[patient_id] = len(finished.cells)
            self._log_bag(finished)
        damaged = {item.file: item.reason for item in finished.quarantined}
        self.done.quarantined += [
            QuarantinedCell(patient_id=patient_id, file=file, reason=reason)
            for file, reason in damaged.items()
        ]
        self.done.hashes += [
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
        self.done.failed.append(FailedPatient(patient_id=patient_id, reason=reason))
        self._log({"event": "failed", "bag_id": patient_id, "reason": reason})
