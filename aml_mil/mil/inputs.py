"""The stores of a run, opened, compared and loaded.

Shapes: P patients, C classes.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_mil.cohort.errors import name_some
from aml_mil.embedding.views import shared_kind
from aml_mil.mil.errors import BagsError, StoresDifferError
from stores import FeatureStore, Manifest, PackedBags, open_store, pack_bags

FOLD_FIELD = "{fold}"
FLIP_VIEWS = frozenset({"identity", "hflip", "vflip", "both"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldStore:
    """One store as a run reads it.

    Attributes:
        path: Where it is.
        manifest: What its features are.
        bags: Its bags, ids sorted.
        bags_sha256: Over the bags' ids and contents.
        cells_sha256: Over the ids of each bag's cells.
    """

    path: Path
    manifest: Manifest
    bags: PackedBags
    bags_sha256: str
    cells_sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitInputs:
    """The patients of a run and the stores that hold their features.

    Attributes:
        stores: One store for all folds, or one per fold in the order of the folds.
        labels: Label by patient id, ids sorted.
        classes: C names, sorted.
        targets: Class of each patient, [P].
    """

    stores: tuple[FoldStore, ...]
    labels: dict[str, str]
    classes: tuple[str, ...]
    targets: npt.NDArray[np.int64]

    def store_index(self, fold: int) -> int:
        """Return which of the stores a fold reads."""
        return fold if len(self.stores) > 1 else 0

    @property
    def one_view_a_bag(self) -> bool:
        """Whether a view is one change of all the patient's cells; a flip is of each on its own."""
        return shared_kind(self.stores[0].manifest.views) is not None

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """The patients, sorted."""
        return tuple(self.labels)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First cell of each patient and, last, the number of cells, [P + 1]."""
        return self.stores[0].bags.offsets


def store_paths(store: str | Path, *, num_folds: int) -> tuple[Path, ...]:
    """Return the store of each fold, or the one store where the path names no ``{fold}``."""
    if FOLD_FIELD not in str(store):
        return (Path(store),)
    return tuple(Path(str(store).replace(FOLD_FIELD, str(k))) for k in range(num_folds))


def run_name(store: str | Path) -> str:
    """Return what a store's run is called: its name without suffix and ``{fold}``."""
    name = Path(store).name.removesuffix("".join(Path(store).suffixes[-1:]))
    return name.replace(FOLD_FIELD, "").strip("-_. ")


def read_labels(path: Path) -> dict[str, str]:
    """Return the label of every bag of a store, ids sorted.

    Raises:
        BagsError: A bag has no label, or all have the same.
    """
    with open_store(path) as store:
        labels = {bag_id: store.record(bag_id).label for bag_id in store.bag_ids}
    unlabelled = [bag_id for bag_id, label in labels.items() if not label]
    if unlabelled:
        raise BagsError(
            f"expected a label for every bag of {path}, got none for "
            f"{name_some(unlabelled, total=len(labels))}; add labels to the cohort's table"
        )
    known = {bag_id: label for bag_id, label in labels.items() if label}
    if len(classes := set(known.values())) < 2:
        raise BagsError(
            f"expected bags of two classes or more in {path}, "
            f"got {len(known)} bags of {len(classes)} ({', '.join(sorted(classes)) or 'none'})"
        )
    return known


def load_inputs(paths: Sequence[Sequence[Path]]) -> tuple[FitInputs, ...]:
    """Read the stores of runs that train together and check that they belong together.

    Args:
        paths: Per run one store, or one per fold.

    Raises:
        BagsError: A bag has no label, no cells or features that are not finite, or there is one
            class only.
        StoresDifferError: The stores differ in patients, labels, cells, views or feature shape.
    """
    flat = [path for of_run in paths for path in of_run]
    labels = read_labels(flat[0])
    stores: list[FoldStore] = []
    for path in flat:
        with open_store(path) as store:
            if stores:
                _check_same_bags(stores[0], store, labels)
            loaded = _load(store, tuple(labels))
        stores.append(loaded)
    classes = tuple(sorted(set(labels.values())))
    targets = np.array([classes.index(label) for label in labels.values()], dtype=np.int64)
    remaining = iter(stores)
    return tuple(
        FitInputs(
            stores=tuple(islice(remaining, len(of_run))),
            labels=labels,
            classes=classes,
            targets=targets,
        )
        for of_run in paths
    )


def _load(store: FeatureStore, ids: tuple[str, ...]) -> FoldStore:
    bags = _without_unknown_views(pack_bags(store, ids), store)
    sizes = np.diff(bags.offsets)
    if empty := [ids[i] for i in np.flatnonzero(sizes == 0)]:
        raise BagsError(
            f"bags without cells in {store.path}: {name_some(empty, total=len(ids))}; delete them"
        )
    damaged = [
        bag_id
        for i, bag_id in enumerate(ids)
        if not np.isfinite(bags.features[:, bags.bag(i)]).all()
    ]
    if damaged:
        raise BagsError(
            f"expected finite features in {store.path}, got NaN or infinity in "
            f"{name_some(damaged, total=len(ids))}; embed these bags again"
        )
    digest = hashlib.sha256()
    records = [store.record(bag_id) for bag_id in ids]
    for record in records:
        digest.update(f"{record.bag_id}\0{record.sha256}\0".encode())
    return FoldStore(
        path=store.path,
        manifest=store.manifest,
        bags=bags,
        bags_sha256=digest.hexdigest(),
        cells_sha256=tuple(record.ids_sha256 for record in records),
    )


def _without_unknown_views(bags: PackedBags, store: FeatureStore) -> PackedBags:
    """Keep the views that are known to be augmentations; of others the untouched only."""
    views = store.manifest.views
    if set(views) <= FLIP_VIEWS or shared_kind(views) is not None:
        return bags
    logger.warning(
        "%s holds views of an unknown kind (%s …): the heads train on the untouched view",
        store.path,
        views[1],
    )
    return replace(bags, features=bags.features[:1])


def _check_same_bags(first: FoldStore, store: FeatureStore, labels: dict[str, str]) -> None:
    where = f"{first.path} and {store.path}"
    if differing := sorted(set(store.bag_ids) ^ set(labels)):
        raise StoresDifferError(
            f"stores hold different patients: {name_some(differing)} in one of {where}; "
            "embed the same cohort into both"
        )
    records = {bag_id: store.record(bag_id) for bag_id in labels}
    relabelled = [b for b, label in labels.items() if records[b].label != label]
    if relabelled:
        raise StoresDifferError(
            f"stores hold different labels for {name_some(relabelled)}: {where}; "
            "embed both from the same table"
        )
    same = zip(labels, first.cells_sha256, strict=True)
    if cells := [b for b, sha256 in same if records[b].ids_sha256 != sha256]:
        raise StoresDifferError(
            f"stores hold other cells, or the same in another order, for "
            f"{name_some(cells, total=len(labels))}: {where}; embed both from the same images"
        )
    for name in ("feature_shape", "views"):
        ours, theirs = getattr(first.manifest, name), getattr(store.manifest, name)
        if ours != theirs:
            raise StoresDifferError(
                f"stores differ in {name}: {ours} and {theirs} in {where}; "
                "stores train together only if they have the same"
            )
