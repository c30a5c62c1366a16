"""How far stored features are from those of torch in fp32, the reference.

V views, B images, D… the shape of one image's features.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.cohort import Cell, Patient
from aml_mil.embedding.cells import load_cell
from aml_mil.embedding.colour import match_colour, pool_colours
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.records import EmbedProgress, PrecisionCheck
from aml_mil.embedding.stain import recorded_reference
from aml_mil.embedding.view_encoder import ViewEncoder
from aml_mil.encoders import Encoder
from stores import FeatureStore

SEED = 0
BATCH_SIZE = 16


class PrecisionPass:
    """Encodes cells drawn at random again, and compares them with what the store holds.

    Args:
        patients: Each has a bag in the store that fits its files.
        store: Only read.
        encoder: The store's.
        device: Where to encode.
        num_cells: To draw; all are taken where there are no more, none for 0.

    Attributes:
        result: The comparison, over all views; None before the end, and where there are no cells.
    """

    def __init__(
        self,
        patients: Sequence[Patient],
        *,
        store: FeatureStore,
        encoder: Encoder,
        device: torch.device,
        num_cells: int,
    ) -> None:
        self.result: PrecisionCheck | None = None
        self._patients = patients
        self._store = store
        self._encoder = encoder
        self._device = device
        self._num_cells = num_cells
        self._cosines: list[float] = []
        self._errors: list[float] = []

    def __iter__(self) -> Iterator[EmbedProgress]:
        """Compare; yields after every patient of whom a cell was drawn."""
        if not self._num_cells:
            return
        drawn = self._draw()
        encoder = ViewEncoder(
            self._build,
            views=self._store.manifest.views,
            image_size_px=self._encoder.image_size_px,
        )
        cells_total = sum(len(cells) for _, cells in drawn)
        for num_patients, (patient, cells) in enumerate(drawn, start=1):
            self._compare(patient, cells, encoder)
            yield EmbedProgress(
                phase="precision",
                cells_done=len(self._cosines),
                cells_total=cells_total,
                patients_done=num_patients,
                patients_total=len(drawn),
            )
        if self._cosines:
            self.result = PrecisionCheck(
                num_cells=len(self._cosines),
                min_cosine=min(self._cosines),
                max_abs_error=max(self._errors),
            )

    def _build(self, views: tuple[str, ...]) -> TorchEngine:
        return TorchEngine(self._encoder, device=self._device, precision="fp32", views=views)

    def _draw(self) -> list[tuple[Patient, list[Cell]]]:
        usable: list[tuple[Patient, list[Cell]]] = []
        for patient in self._patients:
            damaged = {item.file for item in self._store.record(patient.patient_id).quarantined}
            usable.append((patient, [c for c in patient.cells if c.instance_id not in damaged]))
        total = sum(len(cells) for _, cells in usable)
        rng = np.random.default_rng(SEED)
        chosen = set(rng.permutation(total)[: self._num_cells].tolist())
        numbers = iter(range(total))
        drawn = [
            (patient, [cell for cell in cells if next(numbers) in chosen])
            for patient, cells in usable
        ]
        return [(patient, cells) for patient, cells in drawn if cells]

    def _compare(self, patient: Patient, cells: Sequence[Cell], encoder: ViewEncoder) -> None:
        bag = self._store.read(patient.patient_id)
        rows = {name: row for row, name in enumerate(bag.instance_ids)}
        views = [bag.features[None]] + ([] if bag.views is None else [bag.views])
        stored = np.concatenate(views).astype(np.float64)
        size_px = self._encoder.image_size_px
        reference = recorded_reference(self._store.manifest.preprocessing)
        for start in range(0, len(cells), BATCH_SIZE):
            part = cells[start : start + BATCH_SIZE]
            loaded = [load_cell(patient, c, image_size_px=size_px) for c in part]
            images = [item.image for item in loaded if item.image is not None]
            places = [rows[item.cell.instance_id] for item in loaded if item.image is not None]
            if reference is not None and bag.colour is not None:
                own, wanted = pool_colours(bag.colour), np.array(reference)
                images = [match_colour(image, own, wanted) for image in images]
            if images:
                # Of one shape, so that a GPU records its kernels once; the others are nobody's.
                batch = np.zeros((BATCH_SIZE, size_px, size_px, 3), dtype=np.uint8)
                batch[: len(images)] = images
                owners = [patient.patient_id] * len(images)
                expected = encoder.encode(batch, owners)[:, : len(images)].astype(np.float64)
                self._add(stored[:, places], expected)

    def _add(self, found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
        """Take in features of the same cells, both [V, B, D…]."""
        first = found.reshape(*found.shape[:2], -1)
        second = expected.reshape(first.shape)
        self._cosines += _cosines(first, second).min(0).tolist()
        self._errors += np.abs(first - second).max((0, 2)).tolist()


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each pair of vectors; 1 where both are zero."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    are_zero = ~(first.any(-1) | second.any(-1))
    products: NDArray[np.float64] = (first * second).sum(-1)
    cosines: NDArray[np.float64] = products / np.where(lengths > 0, lengths, 1)
    return np.where(are_zero, 1.0, cosines)
