"""The cells whose ranges an int8 graph is made from: drawn once, recorded, and found again.

The graph follows from the encoder and these cells alone. A store records which they were, with
their hashes, and the hash of the graph; a resumed run makes the graph anew, and must arrive at it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import Cell, Cohort, Patient
from aml_mil.embedding.cells import LoadedCell, load_cell
from aml_mil.embedding.colour import match_colour
from aml_mil.embedding.errors import EngineError, NumericsMismatchError
from aml_mil.embedding.stain import Colour, measure_patients
from stores import JSON

NUM_CELLS = 256
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Cells to calibrate with.

    Attributes:
        files: Patient id, instance id and SHA-256 hex of each file.
        images: [N, S, S, 3] RGB.
    """

    files: tuple[tuple[str, str, str], ...]
    images: NDArray[np.uint8]

    def record(self, graph_sha256: str) -> dict[str, JSON]:
        """As a store records it, with the hash of the graph that was made."""
        files: list[JSON] = [list(file) for file in self.files]
        return {"seed": SEED, "graph_sha256": graph_sha256, "files": files}


def draw_calibration(cohort: Cohort, *, image_size_px: int) -> Calibration:
    """Draw readable cells of a cohort, the same for the same cohort.

    Args:
        cohort: At least one cell of it must be readable.
        image_size_px: Side of the images.

    Returns:
        `NUM_CELLS` cells, or all where there are no more.

    Raises:
        EngineError: No cell is readable.
    """
    cells = [(patient, cell) for patient in cohort.patients for cell in patient.cells]
    order = np.random.default_rng(SEED).permutation(len(cells))
    chosen: list[LoadedCell] = []
    for place in order:
        loaded = load_cell(*cells[place], image_size_px=image_size_px)
        if loaded.image is not None:
            chosen.append(loaded)
        if len(chosen) == NUM_CELLS:
            break
    return _gather(chosen)


def find_calibration(
    cohort: Cohort, recorded: Mapping[str, JSON], *, image_size_px: int
) -> Calibration:
    """Find the cells that a store was calibrated with.

    Args:
        cohort: As it is now.
        recorded: What `Calibration.record` gave.
        image_size_px: Side of the images.

    Returns:
        The same cells.

    Raises:
        NumericsMismatchError: One is gone, or is another file now.
    """
    patients = {patient.patient_id: patient for patient in cohort.patients}
    files = recorded["files"]
    assert isinstance(files, Sequence)
    chosen = []
    for patient_id, instance_id, sha256 in files:  # type: ignore[misc,str-unpack]
        loaded = _load(patients.get(str(patient_id)), str(instance_id), image_size_px)
        if loaded is None or loaded.sha256 != sha256:
            message = (
                f"the store was calibrated to int8 with {patient_id}/{instance_id}, which is "
                f"{'gone' if loaded is None else 'another file'} now; bring it back, or embed the "
                "whole cohort into a new store"
            )
            raise NumericsMismatchError(message)
        chosen.append(loaded)
    return _gather(chosen)


def normalise_calibration(
    calibration: Calibration, cohort: Cohort, *, reference: Colour, workers: int
) -> Calibration:
    """Bring the images to the colour that the store's are brought to.

    Args:
        calibration: Cells of the cohort.
        cohort: As it is now.
        reference: Colour to reach.
        workers: Threads that measure the patients.
    """
    drawn = {patient_id for patient_id, _, _ in calibration.files}
    patients = [patient for patient in cohort.patients if patient.patient_id in drawn]
    size_px = calibration.images.shape[1]
    own = dict(
        zip(
            (patient.patient_id for patient in patients),
            measure_patients(patients, image_size_px=size_px, workers=workers),
            strict=True,
        )
    )
    images = []
    for image, (patient_id, _, _) in zip(calibration.images, calibration.files, strict=True):
        colour = own[patient_id]
        assert colour is not None, "one of its cells is readable: it was drawn"
        images.append(match_colour(image, colour, np.array(reference)))
    return replace(calibration, images=np.stack(images))


def _load(patient: Patient | None, instance_id: str, image_size_px: int) -> LoadedCell | None:
    cells: tuple[Cell, ...] = () if patient is None else patient.cells
    for cell in cells:
        if patient is not None and cell.instance_id == instance_id:
            loaded = load_cell(patient, cell, image_size_px=image_size_px)
            return None if loaded.io_error else loaded
    return None


def _gather(chosen: Sequence[LoadedCell]) -> Calibration:
    if not chosen:
        message = "--precision int8 calibrates on cells, and none of the cohort is readable"
        raise EngineError(message)
    return Calibration(
        files=tuple((c.patient.patient_id, c.cell.instance_id, c.sha256) for c in chosen),
        images=np.stack([c.image for c in chosen if c.image is not None]),
    )
