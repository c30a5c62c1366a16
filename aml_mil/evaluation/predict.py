"""Predict patients that a run has not seen, by all its heads, averaged.

Shapes: R replicates, P patients, C classes.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_mil.cohort import Cohort
from aml_mil.cohort.errors import name_some
from aml_mil.embedding import EmbedProgress, FailedPatient
from aml_mil.evaluation.cohort_prediction import CohortPrediction
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.new_patients import (
    Embedded,
    check_store,
    embed_patients,
    load_run_encoder,
    read_patients,
)
from aml_mil.evaluation.ood import TrainingPatients
from aml_mil.evaluation.ood_run import read_training_patients
from aml_mil.evaluation.patient_cells import CellTally, read_bag
from aml_mil.mil.head import Head
from aml_mil.mil.run_dir import CONFIG_FILE, Run
from stores import NotAStoreError, open_store

FloatArray = npt.NDArray[np.float64]


def predict_source(
    run: Run,
    source: str | Path | Cohort,
    *,
    weights: str | Path | None = None,
    out_dir: str | Path | None = None,
) -> CohortPrediction:
    """Do what `predict_steps` does, and return its last record."""
    for record in predict_steps(run, source, weights=weights, out_dir=out_dir):
        last = record
    assert isinstance(last, CohortPrediction)
    return last


def predict_steps(
    run: Run,
    source: str | Path | Cohort,
    *,
    weights: str | Path | None = None,
    out_dir: str | Path | None = None,
) -> Iterator[EmbedProgress | CohortPrediction]:
    """Embed patients where need be, and predict them by every head of a run.

    Args:
        run: A finished run.
        source: A store, a cohort, or a patient's folder. A run with one encoder per fold takes a
            store whose name contains ``{fold}``.
        weights: The encoder's weights, where they are not at the path of config.json.
        out_dir: Keeps the features, predictions.csv and, with labels, metrics.json.

    Yields:
        Progress of the embedding, then the prediction.

    Raises:
        EvaluationError: The encoder is another than the run's, a label is no class of the run, the
            stores of the folds are not of the same patients, or ``out_dir`` is a run's folder.
        PatientsFailedError: No patient could be embedded; where some could, these are predicted.
    """
    documents: Sequence[Mapping[str, Any]] = run.document["stores"]
    stores: list[Path] = []
    failed: tuple[FailedPatient, ...] = ()
    with _folder(out_dir) as folder:
        cohort = None if is_store(source) else _cohort(source)
        if cohort is not None:
            _check_labels(run, list(cohort.labels.items()))
        for fold, document in enumerate(documents):
            if cohort is None:
                stores.append(Path(str(source).replace("{fold}", str(fold))))
                continue
            encoder = load_run_encoder(run, document, weights=_of_fold(weights, fold))
            name = "features.zarr" if len(documents) == 1 else f"features-fold{fold}.zarr"
            for record in embed_patients(cohort, encoder, folder / name, document=document):
                if isinstance(record, Embedded):
                    stores.append(record.store_path)
                    failed = record.failed
                else:
                    yield record
        ids = None
        if cohort is not None:
            without = {patient.patient_id for patient in failed}
            ids = [p.patient_id for p in cohort.patients if p.patient_id not in without]
        prediction = replace(_predict_stores(run, stores, ids), failed=failed)
        if out_dir is not None:
            prediction.write(folder)
    yield prediction


def heads_by_fold(run: Run) -> dict[int, list[Head]]:
    """Return every head of a run, by fold."""
    settings = run.document["fit"]
    return {
        fold: [run.head(fold, seed) for seed in range(settings["seeds"])]
        for fold in range(settings["num_folds"])
    }


def apply_heads(heads: Sequence[Head], features: npt.NDArray[Any]) -> FloatArray:
    """Predict one patient by several heads, [heads, C]."""
    return read_bag(heads, features).probabilities


def _predict_stores(
    run: Run, stores: Sequence[Path], ids: Sequence[str] | None
) -> CohortPrediction:
    documents = run.document["stores"]
    heads = heads_by_fold(run)
    training, not_judged = _training_patients(run)
    by_fold: dict[int, FloatArray] = {}
    labels: dict[str, str | None] = {}
    tallies: dict[str, CellTally] = {}
    for place, (path, document) in enumerate(zip(stores, documents, strict=True)):
        with open_store(path) as store:
            check_store(run, document, store.manifest, path)
            bag_ids = tuple(store.bag_ids) if ids is None else tuple(ids)
            found = {bag_id: store.record(bag_id).label for bag_id in bag_ids}
            if place:
                _check_same_patients(labels, found, stores=(stores[0], path))
            labels = found
            _check_labels(run, [(p, label) for p, label in labels.items() if label is not None])
            folds = sorted(heads) if len(documents) == 1 else [place]
            rows = []
            for bag_id in bag_ids:
                bag = store.read(bag_id)
                readings = {fold: read_bag(heads[fold], bag.features) for fold in folds}
                tallies.setdefault(bag_id, CellTally(bag)).add(bag, readings, training)
                rows.append([readings[fold].probabilities for fold in folds])
            for i, fold in enumerate(folds):
                by_fold[fold] = np.stack([row[i] for row in rows], axis=1)
    if not labels:
        raise EvaluationError(f"expected patients in {stores[0]}, got none")
    own = set(run.predictions().patient_ids)
    return CohortPrediction(
        classes=run.classes,
        patient_ids=tuple(labels),
        labels=tuple(labels.values()),
        by_replicate=np.concatenate([by_fold[fold] for fold in sorted(by_fold)]),
        known=tuple(p for p in labels if p in own),
        cells=tuple(tallies[patient_id].cells for patient_id in labels),
        false_warnings=None if training is None else training.false_warnings,
        not_judged=not_judged,
    )


def _training_patients(run: Run) -> tuple[TrainingPatients | None, str]:
    """Return the training patients, or why they are not known any more."""
    try:
        return read_training_patients(run), ""
    except EvaluationError as error:
        return None, str(error)


def _check_labels(run: Run, labels: Sequence[tuple[str, str]]) -> None:
    unknown = sorted({label for _, label in labels} - set(run.classes))
    if unknown:
        raise EvaluationError(
            f"labels that are no class of {run.path}: {name_some(unknown)}; its classes are "
            f"{', '.join(run.classes)}; keep those with --classes, merge labels with --merge, or "
            "give the others' folders without a table"
        )


def _check_same_patients(
    first: Mapping[str, str | None], other: Mapping[str, str | None], *, stores: tuple[Path, Path]
) -> None:
    """Refuse stores of several folds that are not of the same patients with the same labels."""
    if odd := sorted({patient_id for patient_id, _ in first.items() ^ other.items()}):
        raise EvaluationError(
            f"the stores of the folds hold different patients: {name_some(odd)} not alike, or not "
            f"at all, in {stores[0]} and {stores[1]}; embed the same patients into both"
        )


def is_store(source: str | Path | Cohort) -> bool:
    """Whether a source is a store; ``{fold}`` in its name stands for the fold."""
    if isinstance(source, Cohort):
        return False
    try:
        open_store(str(source).replace("{fold}", "0")).close()
    except NotAStoreError:
        return False
    return True


def _cohort(source: str | Path | Cohort) -> Cohort:
    return source if isinstance(source, Cohort) else read_patients(Path(source))


def _of_fold(weights: str | Path | None, fold: int) -> str | None:
    return None if weights is None else str(weights).replace("{fold}", str(fold))


@contextmanager
def _folder(out_dir: str | Path | None) -> Iterator[Path]:
    """Use the folder asked for, unless a run is there, or one that is gone afterwards."""
    if out_dir is not None:
        folder = Path(out_dir)
        if (folder / CONFIG_FILE).exists():
            raise EvaluationError(
                f"{folder} is the folder of a run, whose predictions and metrics would be "
                "overwritten; name another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="aml-mil-") as temporary:
        yield Path(temporary)
