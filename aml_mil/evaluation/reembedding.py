"""Embed the images of a run's patients again, changed, and predict them by the heads that apply.

Shapes: n cells of one patient, S seeds, P patients, C classes, D features.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from aml_mil.cohort import Cell, Patient, measure_colour
from aml_mil.embedding import EmbedConfig, EngineError
from aml_mil.embedding.building import build_engine
from aml_mil.embedding.cells import LoadedCell, load_cell
from aml_mil.embedding.colour import FloatArray, RgbImage, match_colour, pool_colours
from aml_mil.embedding.numerics import FOLDED, Numerics, choose_numerics
from aml_mil.embedding.parallel import map_ahead
from aml_mil.embedding.stain import Colour, recorded_reference
from aml_mil.encoders import Encoder
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.new_patients import load_run_encoder
from aml_mil.evaluation.perturbations import PatientContext, Perturbation
from aml_mil.evaluation.predict import apply_heads, heads_by_fold
from aml_mil.mil.run_dir import Run
from aml_mil.runtime import DeviceError, count_cores
from stores import StoreError, open_store

Change: TypeAlias = Callable[[RgbImage], RgbImage]
Float32Array: TypeAlias = npt.NDArray[np.float32]

LOOKAHEAD = 64
# More than any engine needs to repay its start.
MANY_ENCODINGS = 100_000


class Reembedded(NamedTuple):
    """One patient under changes of the images."""

    probabilities: FloatArray
    """[changes, S, C]."""
    colours: FloatArray
    """Mean and s.d. of R, G, B over all pixels of the changed images, [changes, 6]."""


class Reembedding:
    """A run's encoders and heads, ready for images that no store holds.

    Where the run's store is still there and was made on such a device, its engine, precision and
    batch size are used; else, and for a store in int8, what `embed` would choose here. Where the
    run's stains were normalised, so are the changed images, as those of a patient who came with
    such a stain.

    Args:
        run: A finished run.
        weights: The encoder's weights, where they are not at the path of config.json.
        device: auto, cpu, cuda or cuda:N.
        max_cells: Most cells of a patient; None takes all.
        seed: Of the draw of cells.

    Attributes:
        numerics: How images are embedded.
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
        self._max_cells, self._seed = max_cells, seed
        self._heads = heads_by_fold(run)
        documents = run.document["stores"]
        self._dtypes = [np.dtype(document["dtype"]) for document in documents]
        self._references = [recorded_reference(d["preprocessing"]) for d in documents]
        encoders = []
        for fold, document in enumerate(documents):
            asked = None if weights is None else str(weights).replace("{fold}", str(fold))
            encoders.append(load_run_encoder(run, document, weights=asked))
        self._image_size_px = encoders[0].image_size_px
        self.numerics = _follow_store(documents[0], encoders[0], device=device)
        self._engines = [
            build_engine(self.numerics, encoder, views=("identity",)) for encoder in encoders
        ]

    def num_files(self, patient: Patient) -> int:
        """Count the files that are taken of a patient."""
        return len(self._draw(patient))

    def measure(self, patient: Patient) -> FloatArray:
        """Measure mean and s.d. of R, G, B over all pixels of a patient, [6].

        Raises:
            EvaluationError: The patient has no readable image.
        """
        colours = [cell.colour for cell in self._load(patient) if cell.colour is not None]
        if not colours:
            raise EvaluationError(f"patient {patient.patient_id} has no readable image")
        return pool_colours(np.stack(colours))

    def images(self, patient: Patient) -> list[RgbImage]:
        """Read a patient's images; damaged files are left out, as in a store."""
        return [cell.image for cell in self._load(patient) if cell.image is not None]

    def predict(
        self,
        images: Sequence[RgbImage],
        changes: Sequence[Callable[[RgbImage], RgbImage]],
        *,
        fold: int,
    ) -> Reembedded:
        """Predict a patient under changes of the images, by the heads of one fold.

        Args:
            images: n images.
            changes: What is done to every image, by turns.
            fold: Where the patient was tested.
        """
        place = fold if len(self._engines) > 1 else 0
        changed = (partial(change, image) for change in changes for image in images)
        measured = map_ahead(
            _change_and_measure, changed, workers=count_cores(), lookahead=LOOKAHEAD
        )
        colours: list[Float32Array] = []
        ready = _keep_colours(measured, colours)
        if (reference := self._references[place]) is not None:
            ready = _normalise(ready, reference, num_cells=len(images))
        stored = np.concatenate(list(self._encode(ready, place=place))).astype(self._dtypes[place])
        parts = stored.reshape(len(changes), len(images), *stored.shape[1:])
        of_cells = np.stack(colours).reshape(len(changes), len(images), -1)
        return Reembedded(
            np.stack([apply_heads(self._heads[fold], part) for part in parts]),
            np.stack([pool_colours(part) for part in of_cells]),
        )

    def _encode(
        self, images: Iterable[RgbImage], *, place: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Encode a stream of images in batches of one size, the last one padded."""
        images, size = iter(images), self.numerics.batch_size
        while batch := list(islice(images, size)):
            padded = np.zeros((size, *batch[0].shape), dtype=np.uint8)
            padded[: len(batch)] = batch
            yield self._engines[place].encode(padded)[0, : len(batch)]

    def _draw(self, patient: Patient) -> tuple[Cell, ...]:
        cells = patient.cells
        if self._max_cells is None or len(cells) <= self._max_cells:
            return cells
        rng = np.random.default_rng(self._seed)
        drawn = rng.choice(len(cells), self._max_cells, replace=False)
        return tuple(cells[i] for i in np.sort(drawn))

    def _load(self, patient: Patient) -> Iterator[LoadedCell]:
        load = partial(load_cell, patient, image_size_px=self._image_size_px)
        return map_ahead(load, self._draw(patient), workers=count_cores(), lookahead=LOOKAHEAD)


def apply_change(perturbation: Perturbation, context: PatientContext) -> Change:
    """Turn a perturbation of a patient into a change of one image."""
    return lambda image: perturbation.apply(image, context)


def _normalise(
    images: Iterator[RgbImage], reference: Colour, *, num_cells: int
) -> Iterator[RgbImage]:
    """Bring a patient's images to the reference, under each change by the colour they then have."""
    while patient := list(islice(images, num_cells)):
        own = pool_colours(np.stack([measure_colour(image) for image in patient]))
        yield from (match_colour(image, own, np.array(reference)) for image in patient)


def _change_and_measure(change: Callable[[], RgbImage]) -> tuple[RgbImage, Float32Array]:
    image = change()
    return image, measure_colour(image)


def _keep_colours(
    measured: Iterable[tuple[RgbImage, Float32Array]], colours: list[Float32Array]
) -> Iterator[RgbImage]:
    """Pass images on and keep their colours."""
    for image, colour in measured:
        colours.append(colour)
        yield image


def _follow_store(document: Mapping[str, Any], encoder: Encoder, *, device: str) -> Numerics:
    config = EmbedConfig(views="identity", device=device)
    chosen = choose_numerics(config, encoder, num_encodings=MANY_ENCODINGS)
    recorded = _recorded_numerics(document)
    if recorded.get("device_type") != chosen.device.type:
        return chosen
    if recorded["compute_dtype"] == "int8":  # which takes cells to calibrate with
        return chosen
    try:
        config = EmbedConfig(
            views="identity",
            device=device,
            engine=recorded["engine"],
            precision=recorded["compute_dtype"],
            batch_size=recorded["batch_size"],
        )
        followed = choose_numerics(config, encoder)
    except (EngineError, DeviceError):
        return chosen
    is_folded = bool(recorded.get(FOLDED))
    return replace(followed, threads=recorded.get("threads"), is_folded=is_folded)


def _recorded_numerics(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the store of a run says of its arithmetic; nothing where it is gone."""
    try:
        with open_store(document["path"]) as store:
            is_same = store.manifest.identity_sha256 == document["identity_sha256"]
            return store.manifest.numerics if is_same else {}
    except StoreError:
        return {}
