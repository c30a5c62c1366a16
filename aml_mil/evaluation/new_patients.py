"""Patients that a run has not seen: found on disk, turned into features by its encoder."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import (
    Cohort,
    DamagedImageError,
    Patient,
    decode_image,
    read_cohort,
    read_image_file,
)
from aml_mil.cohort.errors import name_some
from aml_mil.cohort.images import IMAGE_SUFFIXES
from aml_mil.cohort.listing import is_image_name, list_cells, sort_naturally
from aml_mil.cohort.mll import find_metadata
from aml_mil.embedding import (
    SHARED_VIEWS,
    EmbedConfig,
    EmbedProgress,
    FailedPatient,
    PatientsFailedError,
    embed,
)
from aml_mil.embedding.preprocessing import BEFORE_ENCODER, follow_preparation
from aml_mil.encoders import Encoder, WeightsError, load_encoder
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.mil.run_dir import Run
from stores import Manifest

BUNDLED_ENCODER = "encoder.safetensors"
MAX_SHOWN = 120
# What two stores must share for the same heads to apply; views and dtype are free.
_SAME = ("architecture", "weights_sha256", "preprocessing", "feature_shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The last record of `embed_patients`: where the features are, and whose are not."""

    store_path: Path
    failed: tuple[FailedPatient, ...]


def read_patients(source: Path, *, as_one: bool = False) -> Cohort:
    """Read a cohort, or take folders of images without a table for patients.

    A folder that holds images, and may hold more in folders below, is one patient. Where all images
    lie in several folders below, each of these is a patient, and a note says so.

    Args:
        source: A cohort's folder or table, or a folder of images or of such folders, whose names
            are the patients' ids.
        as_one: The folders below are one patient's smears.

    Raises:
        EvaluationError: It is a folder without images, or an image.
        CohortError: There is no cohort, or it is not as it must be.
    """
    if source.is_file() and is_image_name(source.name):
        message = (
            f"expected a patient's folder, a cohort or a store, got one image, {source}; put the "
            "patient's images into a folder of their own"
        )
        raise EvaluationError(message)
    if not is_image_folder(source):
        return read_cohort(source)
    listing = list_cells(source)
    if not listing.cells:
        message = (
            f"expected images of a patient in {source}, found none and {len(listing.skipped)} "
            f"other files; images end in {', '.join(sorted(IMAGE_SUFFIXES))}, and a cohort has a "
            "metadata.csv"
        )
        raise EvaluationError(message)
    folders = {PurePosixPath(cell.instance_id).parts[0] for cell in listing.cells}
    has_own = any(not cell.smear for cell in listing.cells)
    if as_one or has_own or len(folders) == 1:
        patient = Patient(patient_id=source.resolve().name, label=None, cells=listing.cells)
        return Cohort(root=source, patients=(patient,))
    patients = tuple(
        Patient(patient_id=name, label=None, cells=list_cells(source / name).cells)
        for name in sort_naturally(folders)
    )
    note = (
        f"each of the {len(folders)} folders in {source} is taken for a patient; if they are one "
        "patient's smears, say --one-patient"
    )
    return Cohort(root=source, patients=patients, notes=(note,))


def is_image_folder(source: Path) -> bool:
    """Whether images lie there without a table or labels, as a patient's or some patients'."""
    return source.is_dir() and not find_metadata(source) and not (source / "data").is_dir()


def read_cells(
    source: Path, patient_id: str, instance_ids: Collection[str]
) -> dict[str, NDArray[np.uint8]]:
    """Read the images of some cells of a patient, each in its own size.

    Args:
        source: A cohort, or the patient's folder.
        patient_id: The patient.
        instance_ids: The cells.

    Returns:
        [H, W, 3] RGB by cell.

    Raises:
        EvaluationError: The patient or an image is not there, or an image is damaged.
    """
    cohort = read_patients(source, as_one=source.resolve().name == patient_id)
    patients = {patient.patient_id: patient for patient in cohort.patients}
    cells = {c.instance_id: c for c in patients[patient_id].cells} if patient_id in patients else {}
    if missing := sorted(set(instance_ids) - cells.keys()):
        raise EvaluationError(
            f"images of patient {patient_id} that are not in {source}: "
            f"{name_some(missing, total=len(instance_ids))}; "
            "give the cohort that the run's store was embedded from"
        )
    try:
        return {name: decode_image(read_image_file(cells[name].path)) for name in instance_ids}
    except DamagedImageError as error:
        raise EvaluationError(f"an image of patient {patient_id} has changed: {error}") from error


def load_run_encoder(
    run: Run, document: Mapping[str, Any], *, weights: str | Path | None = None
) -> Encoder:
    """Load the encoder that a run's features came from.

    Args:
        run: The run; its folder may hold the encoder.
        document: What config.json says about the store of a fold.
        weights: A file, where the weights are not at the path of config.json any more.

    Raises:
        EvaluationError: The weights are not there, or are others than the run's.
    """
    bundled = run.path / BUNDLED_ENCODER
    asked = weights or (bundled if bundled.exists() else document["weights"])
    try:
        encoder = load_encoder(
            document["encoder"],
            weights=asked,
            image_size_px=document["preprocessing"]["image_size_px"],
            features="vector" if len(run.document["feature_shape"]) == 1 else "map",
            layer=document["preprocessing"].get("layer"),
        )
    except WeightsError as error:
        message = f"{error}; name the weights that {run.path} was fitted with: --weights FILE"
        raise EvaluationError(message) from error
    found = {
        "architecture": encoder.architecture,
        "weights_sha256": encoder.weights_sha256,
        "feature_shape": list(encoder.feature_shape),
        # What happens before the encoder is no matter of its weights.
        "preprocessing": {
            **{name: document["preprocessing"].get(name) for name in BEFORE_ENCODER},
            **encoder.preprocessing,
        },
    }
    _refuse_other(run, document, found, f"weights {asked}")
    return encoder


def check_store(run: Run, document: Mapping[str, Any], manifest: Manifest, path: Path) -> None:
    """Refuse a store of another encoder than the run's.

    Raises:
        EvaluationError: It is another; names what differs.
    """
    found = {
        "architecture": manifest.architecture,
        "weights_sha256": manifest.weights_sha256,
        "feature_shape": list(manifest.feature_shape),
        "preprocessing": dict(manifest.preprocessing),
    }
    _refuse_other(run, document, found, f"store {path}")


def embed_patients(
    cohort: Cohort, encoder: Encoder, store_path: Path, *, document: Mapping[str, Any]
) -> Iterator[EmbedProgress | Embedded]:
    """Embed what a store does not hold yet, identity view only, as the features of a run were.

    Args:
        cohort: Patients and their cells.
        encoder: The run's.
        store_path: Of a store, new or begun earlier.
        document: What config.json says about the store of a fold, whose stain reference and cell
            types are followed.

    Yields:
        Progress, then where the features are.

    Raises:
        EvaluationError: Patients in the store have changed since.
        PatientsFailedError: None could be embedded.
    """
    config = follow_preparation(EmbedConfig(views="identity"), document["preprocessing"])
    embedding = embed(cohort, encoder, store_path, config)
    try:
        yield from embedding
    except PatientsFailedError:
        if len(embedding.summary.failed) == len(cohort.patients):
            raise
    if changed := embedding.summary.changed:
        raise EvaluationError(
            f"patients have changed since they were embedded into {store_path}: "
            f"{name_some(str(c) for c in changed)}; remove that store, or name another folder"
        )
    yield Embedded(store_path=store_path, failed=embedding.summary.failed)


def _refuse_other(
    run: Run, document: Mapping[str, Any], found: Mapping[str, Any], what: str
) -> None:
    wanted = {"feature_shape": run.document["feature_shape"], **document}
    for name in _SAME:
        ours, theirs = wanted[name], found[name]
        if name == "preprocessing":
            ours, theirs = _differences(ours, theirs)
        if _plain(ours) != _plain(theirs):
            raise EvaluationError(
                f"{what} is another encoder than that of {run.path}: expected {name} "
                f"{_short(ours)}, got {_short(theirs)}; heads apply to their own encoder only"
            )


def _differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those entries of two preprocessings that differ; further views are free."""
    absent = dict.fromkeys(("layer", *BEFORE_ENCODER))
    ours = {**absent, **ours, SHARED_VIEWS: None}
    theirs = {**ours, **absent, **theirs, SHARED_VIEWS: None}
    keys = [key for key in theirs if _plain(ours.get(key)) != _plain(theirs[key])]
    return {key: ours.get(key) for key in keys}, {key: theirs[key] for key in keys}


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else _plain(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
