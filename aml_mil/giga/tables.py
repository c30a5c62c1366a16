"""Embeddings of patients as a file, with where they come from.

Shapes: P patients, H dimensions.
"""

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aml_mil.files import write_file
from aml_mil.giga.errors import GigaError
from stores import JSON
from stores.interchange.anndata import load_library
from stores.interchange.hidden_path import hidden_path

SUFFIXES = (".csv", ".npz", ".h5ad")
PREFIX = "e"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientEmbeddings:
    """What patients were embedded to.

    Attributes:
        patient_ids: P ids.
        labels: P labels; None where a patient has none.
        vectors: [P, H] float32, each of length 1.
        provenance: Encoder of patients, store, draws, versions.
    """

    patient_ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    vectors: NDArray[np.float32]
    provenance: Mapping[str, JSON]


def write_embeddings(path: Path, embeddings: PatientEmbeddings) -> tuple[Path, ...]:
    """Write a table, by the suffix of the path; the file is there completely or not at all.

    Args:
        path: ``.csv`` (its provenance goes beside it, ``.json``), ``.npz`` or ``.h5ad``.
        embeddings: What to write.

    Returns:
        The files.

    Raises:
        GigaError: Another suffix.
        InterchangeError: An AnnData file is wanted, and anndata is not installed.
    """
    check_suffix(path)
    if path.suffix == ".npz":
        write_file(path, _npz(embeddings))
        return (path,)
    if path.suffix == ".h5ad":
        _write_anndata(path, embeddings)
        return (path,)
    beside = path.with_suffix(".json")
    write_file(path, _csv(embeddings))
    write_file(beside, f"{json.dumps(embeddings.provenance, indent=2)}\n".encode())
    return path, beside


def check_suffix(path: Path) -> None:
    """Refuse a name that does not say which file is wanted.

    Raises:
        GigaError: It ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        expected = ", ".join(SUFFIXES)
        raise GigaError(f"expected a file that ends in one of {expected}, got {path.name!r}")


def _csv(embeddings: PatientEmbeddings) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{PREFIX}{i + 1}" for i in range(embeddings.vectors.shape[1])]
    writer.writerow(["patient_id", "label", *columns])
    rows = zip(embeddings.patient_ids, embeddings.labels, embeddings.vectors, strict=True)
    for patient_id, label, vector in rows:
        writer.writerow([patient_id, label or "", *(f"{value:.9g}" for value in vector)])
    return text.getvalue().encode()


def _npz(embeddings: PatientEmbeddings) -> bytes:
    content = io.BytesIO()
    np.savez(
        content,
        patient_ids=np.array(embeddings.patient_ids),
        labels=np.array(_texts(embeddings.labels)),
        embeddings=embeddings.vectors,
        provenance=np.array(json.dumps(embeddings.provenance)),
    )
    return content.getvalue()


def _write_anndata(path: Path, embeddings: PatientEmbeddings) -> None:
    anndata, pandas = load_library(), import_module("pandas")
    if path.exists():
        path.unlink()
    with hidden_path(path) as hidden, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what later releases of anndata will do
        anndata.AnnData(
            X=embeddings.vectors,
            obs=pandas.DataFrame(
                {"label": _texts(embeddings.labels)}, index=list(embeddings.patient_ids)
            ),
            uns={"provenance": json.dumps(embeddings.provenance)},
        ).write_h5ad(hidden)


def _texts(labels: Sequence[str | None]) -> list[str]:
    return [label or "" for label in labels]
