"""From a stream of cells to batches, and from batches to the bags of patients.

V views, B images of a batch, N cells of a patient, D… the shape of one image's features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import Cell, Patient, source_fingerprint
from aml_mil.embedding.cells import LoadedCell
from aml_mil.embedding.feature_rows import FeatureRows
from stores import Bag, QuarantinedFile

NO_COORDS = (np.nan, np.nan)


@dataclass(slots=True, kw_only=True, eq=False)
class PatientInProgress:
    """What is known of a patient whose cells are under way."""

    patient: Patient
    hashes: list[tuple[str, str]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    colours: list[NDArray[np.float32]] = field(default_factory=list)
    features: FeatureRows
    quarantined: list[QuarantinedFile] = field(default_factory=list)
    io_errors: list[str] = field(default_factory=list)

    @property
    def num_arrived(self) -> int:
        """Files that were loaded, or found to be unusable."""
        return len(self.cells) + len(self.quarantined) + len(self.io_errors)

    @property
    def is_complete(self) -> bool:
        """Whether every file has arrived and every usable one is encoded."""
        has_all = self.num_arrived == len(self.patient.cells)
        return has_all and self.features.num_rows == len(self.cells)

    @property
    def failure(self) -> str:
        """Why the complete patient cannot become a bag; "" where it can."""
        if self.io_errors:
            first, num = self.io_errors[0], len(self.io_errors)
            return f"cannot read {first} ({num} of {len(self.patient.cells)} files)"
        if not self.cells:
            first_file = self.quarantined[0]
            return (
                f"none of its {len(self.quarantined)} images is readable, "
                f"the first is {first_file.file}: {first_file.reason}"
            )
        return ""

    def to_bag(self) -> Bag:
        """Put the parts together."""
        features = self.features.values
        annotations = annotate(self.cells)
        return Bag(
            bag_id=self.patient.patient_id,
            features=features[0],
            views=features[1:] if len(features) > 1 else None,
            instance_ids=tuple(cell.instance_id for cell in self.cells),
            colour=np.stack(self.colours),
            instance_labels=annotations.instance_labels,
            smear=annotations.smear,
            coords=annotations.coords,
            label=self.patient.label,
            attributes=dict(self.patient.attributes),
            quarantined=tuple(self.quarantined),
            fingerprint=source_fingerprint(self.hashes),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """What is known of cells beside their images; None where nothing is known of any."""

    instance_labels: tuple[str, ...] | None
    smear: tuple[str, ...] | None
    coords: NDArray[np.float32] | None


def annotate(cells: list[Cell]) -> Annotations:
    """Collect types, smears and positions of cells, in their order."""
    types = tuple(cell.cell_type for cell in cells)
    smears = tuple(cell.smear for cell in cells)
    has_coords = any(cell.coords is not None for cell in cells)
    positions = [NO_COORDS if cell.coords is None else cell.coords for cell in cells]
    return Annotations(
        instance_labels=types if any(types) else None,
        smear=smears if any(smears) else None,
        coords=np.array(positions, dtype=np.float32) if has_coords else None,
    )


class Assembly:
    """Collects cells in batches of one fixed shape, and gives back whole patients.

    Args:
        batch_size: Images in every batch.
        image_size_px: Side of every image.
        dtype: Of the stored features.
    """

    def __init__(self, *, batch_size: int, image_size_px: int, dtype: str) -> None:
        self._dtype = dtype
        shape = (batch_size, image_size_px, image_size_px, 3)
        self.images: NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
        self._owners: list[PatientInProgress] = []
        self._patients: dict[str, PatientInProgress] = {}

    @property
    def num_waiting(self) -> int:
        """Images of the batch that are filled."""
        return len(self._owners)

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """Whose the images of the batch are, those that are filled."""
        return tuple(owner.patient.patient_id for owner in self._owners)

    @property
    def is_full(self) -> bool:
        """Whether the batch must be encoded before more can come."""
        return len(self._owners) == len(self.images)

    def add(self, loaded: LoadedCell) -> None:
        """Take in what became of one file; the cells of a patient come in their order."""
        patient = loaded.patient
        progress = self._patients.get(patient.patient_id)
        if progress is None:
            rows = FeatureRows(len(patient.cells), dtype=self._dtype)
            progress = PatientInProgress(patient=patient, features=rows)
            self._patients[patient.patient_id] = progress
        name = loaded.cell.instance_id
        if loaded.io_error:
            progress.io_errors.append(f"{name}: {loaded.io_error}")
            return
        progress.hashes.append((name, loaded.sha256))
        if loaded.image is None or loaded.colour is None:
            progress.quarantined.append(QuarantinedFile(file=name, reason=loaded.damage))
            return
        self.images[len(self._owners)] = loaded.image
        self._owners.append(progress)
        progress.cells.append(loaded.cell)
        progress.colours.append(loaded.colour)

    def distribute(self, features: NDArray[np.float32]) -> None:
        """Hand the features of the batch to its patients, and empty it.

        Args:
            features: [V, B, D…]; those of unfilled images are dropped.
        """
        start = 0
        while start < len(self._owners):
            owner, stop = self._owners[start], start
            while stop < len(self._owners) and self._owners[stop] is owner:
                stop += 1
            owner.features.add(features[:, start:stop])
            start = stop
        self._owners.clear()
        self.images[:] = 0

    def take_complete(self) -> Iterator[PatientInProgress]:
        """Give back, once, the patients of which everything is there."""
        for progress in [p for p in self._patients.values() if p.is_complete]:
            del self._patients[progress.patient.patient_id]
            yield progress
