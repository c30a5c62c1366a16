"""Where an encoder puts cells that an expert has named: a UMAP, and two numbers of the features.

Shapes: M cells, D features.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, silhouette_score

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.neighbours import predict_by_neighbours
from stores import FeatureStore

FloatArray = npt.NDArray[np.float64]

MAX_CELLS = 6000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedCells:
    """Annotated cells with their features.

    Attributes:
        features: [M, D].
        cell_types: Expert's type of each cell, M.
        patient_ids: Patient of each cell, M.
    """

    features: npt.NDArray[np.float32]
    cell_types: tuple[str, ...]
    patient_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellMap:
    """Cells in the plane, and how well the features themselves separate the types.

    Attributes:
        name: Of the encoder or run.
        points: [M, 2].
        cell_types: Of each cell, M.
        silhouette: Of the types in the features, cosine distance, -1 to 1; None for one type.
        knn_accuracy: Of the majority of the 20 nearest cells of other patients, cosine.
        knn_balanced_accuracy: The same, each type counting equally.
    """

    name: str
    points: FloatArray
    cell_types: tuple[str, ...]
    silhouette: float | None
    knn_accuracy: float
    knn_balanced_accuracy: float


def read_named_cells(
    store: FeatureStore, patient_ids: Sequence[str], *, max_cells: int = MAX_CELLS, seed: int = 0
) -> NamedCells:
    """Read the annotated cells of some patients, identity view.

    Args:
        store: With expert's types.
        patient_ids: Bags to read.
        max_cells: Where there are more, so many are drawn.
        seed: Of the draw.

    Raises:
        EvaluationError: No cell of these patients has a type, or only one patient has any.
    """
    features, types, owners = [], [], []
    for patient_id in patient_ids:
        bag = store.read(patient_id)
        named = [i for i, t in enumerate(bag.instance_labels or ()) if t]
        flat = bag.features.reshape(len(bag.features), -1)
        features.append(flat[named].astype(np.float32))
        types += [(bag.instance_labels or ())[i] for i in named]
        owners += [patient_id] * len(named)
    if len(set(owners)) < 2:
        raise EvaluationError(
            f"expected cells with an expert's type in {store.path} for two of the "
            f"{len(patient_ids)} patients asked for, got {len(set(owners))}; "
            "a map of cells needs annotations in the cohort that was embedded"
        )
    keep = np.arange(len(types))
    if len(types) > max_cells:
        drawn = np.random.default_rng(seed).choice(len(types), max_cells, replace=False)
        keep = np.sort(drawn)
    return NamedCells(
        features=np.concatenate(features)[keep],
        cell_types=tuple(types[i] for i in keep),
        patient_ids=tuple(owners[i] for i in keep),
    )


def map_cells(cells: NamedCells, *, name: str, seed: int = 0) -> CellMap:
    """Lay cells out in the plane by UMAP and measure how well their types separate.

    Args:
        cells: Annotated cells.
        name: Of the encoder or run.
        seed: Of the UMAP.
    """
    types = np.array(cells.cell_types)
    features = torch.from_numpy(cells.features)
    predicted = predict_by_neighbours(
        features,
        features,
        cells.cell_types,
        query_patients=cells.patient_ids,
        bank_patients=cells.patient_ids,
    )
    with warnings.catch_warnings():
        # A type that no cell is called, or few cells have, is no cause for alarm here.
        warnings.simplefilter("ignore", UserWarning)
        balanced = balanced_accuracy_score(types, predicted)
    return CellMap(
        name=name,
        points=lay_out(cells.features, seed=seed),
        cell_types=cells.cell_types,
        silhouette=_silhouette(cells.features, types),
        knn_accuracy=float(accuracy_score(types, predicted)),
        knn_balanced_accuracy=float(balanced),
    )


def _silhouette(features: npt.NDArray[np.float32], types: npt.NDArray[np.str_]) -> float | None:
    num_types = len(set(types.tolist()))
    if not 2 <= num_types < len(types):
        return None
    return float(silhouette_score(features, types, metric="cosine"))


def lay_out(features: npt.NDArray[np.float32], *, seed: int) -> FloatArray:
    """Lay cells out in the plane by UMAP on the cosine, [M, D] → [M, 2].

    Source:
        McInnes et al. 2018, https://arxiv.org/abs/1802.03426
    """
    with warnings.catch_warnings():
        # umap-learn warns at import where TensorFlow is not installed, and about small data.
        warnings.simplefilter("ignore")
        import umap

        reducer: Any = umap.UMAP(
            n_neighbors=min(15, len(features) - 1), metric="cosine", random_state=seed, n_jobs=1
        )
        points: FloatArray = np.asarray(reducer.fit_transform(features), dtype=np.float64)
    return points
