"""All bags of a store as the rows of one table, for targets that keep cells and not bags.

N cells of all bags, D features of one cell, maps flattened.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.interchange.errors import ExportError
from stores.interchange.exporting import ExportedBag
from stores.interchange.own_notes import quarantined_json
from stores.schema import COLOUR, COLOUR_CHANNELS, COORDS, INSTANCE_LABELS, SMEAR, Bag


@dataclass(slots=True, kw_only=True)
class CellRows:
    """What is known of each cell; an optional array is None where no bag has it.

    Attributes:
        features: ``[N, D]``.
        views: ``[N, D]`` of each further view.
        coords: ``[N, 2]``, NaN where a bag has none.
        colour: ``[N, 6]``, NaN where a bag has none.
        instance_labels: "" where a cell has none.
        about: By bag, what has no place in a row: attributes and quarantined files as JSON text.
    """

    features: NDArray[Any]
    views: tuple[NDArray[Any], ...]
    coords: NDArray[np.float32] | None
    colour: NDArray[np.float32] | None
    instance_labels: list[str] | None
    smear: list[str] | None
    bag_ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    instance_ids: list[str] = field(default_factory=list)
    about: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def empty(cls, store: FeatureStore) -> Self:
        """Make room for all cells of a store.

        Raises:
            ExportError: the store has no bags.
        """
        records = [store.record(bag_id) for bag_id in store.bag_ids]
        if not records:
            raise ExportError(f"{store.path} has no bags; nothing to export")
        num = sum(record.num_instances for record in records)
        held = {name for record in records for name in record.arrays}
        shape = (num, prod(store.manifest.feature_shape))
        dtype = store.manifest.dtype
        return cls(
            features=np.empty(shape, dtype),
            views=tuple(np.empty(shape, dtype) for _ in store.manifest.views[1:]),
            coords=np.full((num, 2), np.nan, np.float32) if COORDS in held else None,
            colour=np.full((num, COLOUR_CHANNELS), np.nan, np.float32) if COLOUR in held else None,
            instance_labels=[] if INSTANCE_LABELS in held else None,
            smear=[] if SMEAR in held else None,
        )


def collect_rows(store: FeatureStore, cells: CellRows) -> Iterator[ExportedBag]:
    """Fill in the bags of a store in the order of their ids, each verified."""
    start = 0
    for bag_id in store.bag_ids:
        bag = store.read(bag_id)
        rows = slice(start, start := start + len(bag.instance_ids))
        _fill(cells, bag, rows)
        notes = ("no label: left empty",) if bag.label is None else ()
        yield ExportedBag(bag_id=bag_id, num_instances=len(bag.instance_ids), notes=notes)


def _fill(cells: CellRows, bag: Bag, rows: slice) -> None:
    num = len(bag.instance_ids)
    cells.features[rows] = bag.features.reshape(num, -1)
    if bag.views is not None:
        for target, view in zip(cells.views, bag.views, strict=True):
            target[rows] = view.reshape(num, -1)
    if cells.coords is not None and bag.coords is not None:
        cells.coords[rows] = bag.coords
    if cells.colour is not None and bag.colour is not None:
        cells.colour[rows] = bag.colour
    if cells.instance_labels is not None:
        cells.instance_labels += bag.instance_labels or ("",) * num
    if cells.smear is not None:
        cells.smear += bag.smear or ("",) * num
    cells.bag_ids += (bag.bag_id,) * num
    cells.labels += (bag.label or "",) * num
    cells.instance_ids += bag.instance_ids
    cells.about[bag.bag_id] = {
        "attributes": json.dumps(bag.attributes),
        "quarantined": json.dumps(quarantined_json(bag.quarantined)),
    }
