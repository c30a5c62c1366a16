"""From a stream of cells to batches, and from batches to the bags of patients.

V views, B images of a batch, N cells of a patient, D… the shape of one image's features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import UNREAD, Cell, FileHashes, Patient, source_fingerprint
from aml_mil.embedding.cells import LoadedCell
from aml_mil.embedding.feature_rows import FeatureRows
from stores import Bag, QuarantinedFile

NO_COORDS = (np.nan, np.nan)


@dataclass(slots=True, kw_only=True, eq=False)
class PatientInProgress:
    """What is known of a patient whose cells are under way."""

    patient: Patient
    files: list[str] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    cells: list[Cell] = field(default_factory=list)
    colours: NDArray[np.float32]
    features: FeatureRows
    quarantined: list[QuarantinedFile] = field(default_factory=list)
    io_errors: list[str] = field(default_factory=list)

    @property
    def hashes(self) -> FileHashes:
        """SHA-256 of each file that could be read."""
        return FileHashes(tuple(self.files), bytes(self.digests))

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
            colour=self.colours[: len(self.cells)],
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Images to encode together.

    Attributes:
        images: [B, S, S, 3]; black where there is no cell.
        owners: Whose the first images are.
    """

    images: NDArray[np.uint8]
    owners: tuple[PatientInProgress, ...]

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """Whose the first images are, by name."""
        return tuple(owner.patient.patient_id for owner in self.owners)


class Assembly:
    """Collects cells in batches of one fixed shape, and gives back whole patients.

    Args:
        new_images: Makes memory for a batch, [B, S, S, 3]; it is used again once the batch is
            distributed.
        dtype: Of the stored features.
    """

    def __init__(self, *, new_images: Callable[[], NDArray[np.uint8]], dtype: str) -> None:
        self._new_images = new_images
        self._dtype = dtype
        self._idle: list[NDArray[np.uint8]] = []
        self._images: NDArray[np.uint8] | None = None
        self._owners: list[PatientInProgress] = []
        self._patients: dict[str, PatientInProgress] = {}

    @property
    def is_full(self) -> bool:
        """Whether the batch must be taken before more can come."""
        return self._images is not None and len(self._owners) == len(self._images)

    def add(self, loaded: LoadedCell) -> None:
        """Take in what became of one file; the cells of a patient come in their order."""
        patient = loaded.patient
        progress = self._patients.get(patient.patient_id)
        if progress is None:
            num_cells = len(patient.cells)
            progress = PatientInProgress(
                patient=patient,
                colours=np.empty((num_cells, 6), dtype=np.float32),
                features=FeatureRows(num_cells, dtype=self._dtype),
            )
            self._patients[patient.patient_id] = progress
        name = loaded.cell.instance_id
        if loaded.io_error:
            progress.io_errors.append(f"{name}: {loaded.io_error}")
            return
        progress.files.append(name)
        progress.digests += bytes.fromhex(loaded.sha256) or UNREAD
        if loaded.image is None or loaded.colour is None:
            progress.quarantined.append(QuarantinedFile(file=name, reason=loaded.damage))
            return
        if self._images is None:
            self._images = self._idle.pop() if self._idle else self._new_images()
        self._images[len(self._owners)] = loaded.image
        self._owners.append(progress)
        progress.colours[len(progress.cells)] = loaded.colour
        progress.cells.append(loaded.cell)

    def take_batch(self) -> Batch | None:
        """Give away the images collected so far, and begin anew; None if there are none."""
        if self._images is None:
            return None
        self._images[len(self._owners) :] = 0
        batch = Batch(images=self._images, owners=tuple(self._owners))
        self._images = None
        self._owners.clear()
        return batch

    def distribute(self, batch: Batch, features: NDArray[np.float32]) -> None:
        """Hand the features of a batch to its patients; batches come in their order.

        Args:
            batch: As it was taken.
            features: [V, B, D…]; those of unfilled images are dropped.
        """
        start = 0
        for _, group in groupby(batch.owners, key=id):
            owners = list(group)
            owners[0].features.add(features[:, start : start + len(owners)])
            start += len(owners)
        self._idle.append(batch.images)

    def take_complete(self) -> Iterator[PatientInProgress]:
        """Give back, once, the patients of which everything is there."""
        for progress in [p for p in self._patients.values() if p.is_complete]:
            del self._patients[progress.patient.patient_id]
            yield progress
