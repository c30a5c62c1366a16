"""Embed the images of a run's patients again, changed, and predict them by the heads that apply.

Shapes: n cells of one patient, S seeds, P patients, C classes.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_mil.cohort import Patient
from aml_mil.embedding.cells import LoadedCell, load_cell
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.numerics import choose_numerics
from aml_mil.embedding.parallel import map_ahead
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.floors import patient_colours
from aml_mil.evaluation.new_patients import load_run_encoder
from aml_mil.evaluation.perturbations import PatientContext, Perturbation, RgbImage
from aml_mil.evaluation.predict import apply_heads, heads_by_fold
from aml_mil.mil.run_dir import Run
from aml_mil.runtime import count_cores

FloatArray = npt.NDArray[np.float64]

LOOKAHEAD = 64


class Reembedding:
    """A run's encoders and heads, ready for images that no store holds.

    Args:
        run: A finished run.
        weights: The encoder's weights, where they are not at the path of config.json.
        device: auto, cpu, cuda or cuda:N.
        max_cells: Most cells of a patient; None takes all.
        seed: Of the draw of cells.

    Attributes:
        num_cells: Cells measured so far.
    """

    def __init__(
        self,
        run: Run,
        *,
        weights: str | Path | None,
        device: str,
        max_cells: int | None,
        seed: int,
    ) -> None:
        self.num_cells = 0
        self._max_cells, self._seed = max_cells, seed
        self._heads = heads_by_fold(run)
        documents = run.document["stores"]
        self._dtypes = [np.dtype(document["dtype"]) for document in documents]
        encoders = []
        for fold, document in enumerate(documents):
            asked = None if weights is None else str(weights).replace("{fold}", str(fold))
            encoders.append(load_run_encoder(run, document, weights=asked))
        self._image_size_px = encoders[0].image_size_px
        self._numerics = choose_numerics(EmbedConfig(views="identity", device=device), encoders[0])
        self._engines = [
            TorchEngine(
                encoder,
                device=self._numerics.device,
                precision=self._numerics.precision,
                views=("identity",),
            )
            for encoder in encoders
        ]

    def measure(self, patients: Sequence[Patient]) -> FloatArray:
        """Measure mean and s.d. of R, G, B over all pixels of each patient, [P, 6]."""
        rows = []
        for patient in patients:
            colours = [cell.colour for cell in self._load(patient) if cell.colour is not None]
            if not colours:
                raise EvaluationError(f"patient {patient.patient_id} has no readable image")
            rows.append(patient_colours(np.stack(colours), np.array([0, len(colours)]))[0])
            self.num_cells += len(colours)
        return np.stack(rows)

    def images(self, patient: Patient) -> list[RgbImage]:
        """Read a patient's images; damaged files are left out, as in a store."""
        return [cell.image for cell in self._load(patient) if cell.image is not None]

    def predict(self, images: Sequence[RgbImage], *, fold: int) -> FloatArray:
        """Predict a patient by the heads of one fold, [S, C]."""
        place = fold if len(self._engines) > 1 else 0
        size = min(self._numerics.batch_size, len(images))
        features = []
        for first in range(0, len(images), size):
            batch = np.stack(images[first : first + size])
            padded = np.zeros((size, *batch.shape[1:]), dtype=np.uint8)
            padded[: len(batch)] = batch
            features.append(self._engines[place].encode(padded)[0, : len(batch)])
        stored = np.concatenate(features).astype(self._dtypes[place])
        return apply_heads(self._heads[fold], stored)

    def _load(self, patient: Patient) -> Iterator[LoadedCell]:
        cells = patient.cells
        if self._max_cells is not None and len(cells) > self._max_cells:
            rng = np.random.default_rng(self._seed)
            drawn = rng.choice(len(cells), self._max_cells, replace=False)
            cells = tuple(cells[i] for i in np.sort(drawn))
        load = partial(load_cell, patient, image_size_px=self._image_size_px)
        return map_ahead(load, cells, workers=count_cores(), lookahead=LOOKAHEAD)


def change_images(
    images: Sequence[RgbImage], perturbation: Perturbation, context: PatientContext
) -> list[RgbImage]:
    """Apply a perturbation to every image of a patient."""

    def change(image: RgbImage) -> RgbImage:
        return perturbation.apply(image, context)

    return list(map_ahead(change, images, workers=count_cores(), lookahead=LOOKAHEAD))
