"""The cells of patients, kept on the device once and gathered from by row number.

Shapes: P patients, V stored views, N cells of all patients, D features, B sets of k cells.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aml_mil.cohort.errors import name_some
from aml_mil.giga.errors import CoordsMissingError, GigaError
from aml_mil.runtime import upload
from stores import FeatureStore, Manifest, open_store, pack_bags
from stores.schema import COORDS

IntArray = NDArray[np.int64]


class CellSets(NamedTuple):
    """Sets of cells of one size.

    Attributes:
        features: [B, k, D] in float32.
        places: [B, k, 2] coordinates; None where the cells have none.
    """

    features: Tensor
    places: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientBags:
    """Patients and all their cells.

    Attributes:
        path: Of the store.
        manifest: How the features were made.
        patient_ids: P ids.
        labels: P labels; None where a patient has none.
        offsets: First cell of each patient and, last, N, [P + 1].
        table: Features of every view and cell, [V * N, D], on the device.
        places: Coordinates, [N, 2], on the device; None unless every cell has them.
        colour: Mean and s.d. of R, G, B of each cell, [N, 6]; None unless every patient has it.
        sha256: Over ids and contents.
    """

    path: Path
    manifest: Manifest
    patient_ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    offsets: IntArray
    table: Tensor
    places: Tensor | None
    colour: NDArray[np.float32] | None
    sha256: str

    @property
    def sizes(self) -> IntArray:
        """Cells of each patient, [P]."""
        return np.diff(self.offsets)

    @property
    def num_cells(self) -> int:
        """N."""
        return int(self.offsets[-1])

    @property
    def num_views(self) -> int:
        """V."""
        return self.manifest.num_views

    def gather(self, cells: IntArray, *, views: IntArray | None = None) -> CellSets:
        """Fetch sets of cells.

        Args:
            cells: Numbers of the cells, [B, k], from 0 to N - 1.
            views: Stored view of each set, [B]; the untouched one if not given.

        Returns:
            The sets, places as stored.
        """
        device = self.table.device
        index = upload(cells, device)
        rows = index
        if views is not None:
            rows = index + upload(views, device)[:, None] * self.num_cells
        features = self.table[rows.flatten()].float().view(*rows.shape, -1)
        return CellSets(features, None if self.places is None else self.places[index])


def read_bags(
    path: str | Path, *, device: torch.device, patient_ids: Sequence[str] | None = None
) -> PatientBags:
    """Read a store; maps become vectors by the mean over their positions.

    Args:
        path: A feature store.
        device: Where the features are to lie.
        patient_ids: Which patients; all if not given.

    Raises:
        GigaError: The store is empty, or a wanted patient is not in it.
        StoreError: The store cannot be read.
    """
    with open_store(path) as store:
        ids = tuple(sorted(store.bag_ids if patient_ids is None else patient_ids))
        if not ids:
            raise GigaError(f"{path} holds no patients; embed a cohort first")
        if missing := sorted(set(ids) - set(store.bag_ids)):
            raise GigaError(
                f"patients without a bag in {path}: {name_some(missing, total=len(ids))}; "
                "use folds of this store's patients"
            )
        packed = pack_bags(store, ids)
        places = _read_places(store, ids)
        digest = hashlib.sha256()
        for bag_id in ids:
            digest.update(f"{bag_id}\0{store.record(bag_id).sha256}\0".encode())
        num_features = store.manifest.feature_shape[0]
        rows = packed.features.reshape(-1, num_features, packed.features[0, 0, 0].size)
        return PatientBags(
            path=store.path,
            manifest=store.manifest,
            patient_ids=ids,
            labels=packed.labels,
            offsets=packed.offsets,
            table=_table(rows).to(device),
            places=None if places is None else torch.from_numpy(places).to(device),
            colour=packed.colour,
            sha256=digest.hexdigest(),
        )


def require_places(bags: PatientBags) -> Tensor:
    """Return the coordinates.

    Raises:
        CoordsMissingError: A cell has none.
    """
    if bags.places is None:
        with open_store(bags.path) as store:
            lacking = [p for p in bags.patient_ids if not _has_places(store, p)]
        raise CoordsMissingError(
            f"the sparse encoder needs coords of every cell, {bags.path} lacks them in "
            f"{name_some(lacking, total=len(bags.patient_ids))}; use --encoder set, or a cohort "
            "table with x_um and y_um"
        )
    return bags.places


def _table(rows: NDArray[np.floating]) -> Tensor:
    """Turn features, [rows, D, positions], into vectors in their own type."""
    if rows.shape[2] == 1:
        return torch.from_numpy(np.ascontiguousarray(rows[..., 0]))
    return torch.from_numpy(rows.mean(axis=2, dtype=np.float32))


def _read_places(store: FeatureStore, ids: Sequence[str]) -> NDArray[np.float32] | None:
    if not all(COORDS in store.record(bag_id).arrays for bag_id in ids):
        return None
    places = [store.read(bag_id).coords for bag_id in ids]
    found = np.concatenate([p for p in places if p is not None])
    return found if np.isfinite(found).all() else None


def _has_places(store: FeatureStore, bag_id: str) -> bool:
    coords = store.read(bag_id).coords
    return coords is not None and bool(np.isfinite(coords).all())
