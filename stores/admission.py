"""The checks a bag must pass before it is written; readers rely on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.arrays import ArrayValue
from stores.documents import as_json
from stores.errors import InvalidBagError, StoreMismatchError
from stores.names import encode_bag_id
from stores.schema import (
    COLOUR,
    COLOUR_CHANNELS,
    COORDS,
    FEATURES,
    INSTANCE_IDS,
    INSTANCE_LABELS,
    MAX_ARRAY_BYTES,
    SMEAR,
    VIEWS,
    Bag,
    Manifest,
)


def admit(bag: Bag, manifest: Manifest) -> dict[str, ArrayValue]:
    """Check a bag against the schema and the store; return its arrays as they will be stored.

    Features of a wider float type are cast to the store's dtype.

    Raises:
        InvalidBagError: a rule of the schema is broken.
        StoreMismatchError: shape, dtype or views are not the store's.
    """
    _check_record(bag)
    arrays: dict[str, ArrayValue] = {INSTANCE_IDS: _instance_ids(bag)}
    arrays[FEATURES] = _features(bag, manifest, FEATURES, bag.features)
    if (bag.views is None) != (manifest.num_views == 1):
        given = 1 if bag.views is None else 1 + len(bag.views)
        raise StoreMismatchError(
            f"bag {bag.bag_id!r} has {given} views, the store {manifest.num_views} "
            f"({', '.join(manifest.views)})"
        )
    if bag.views is not None:
        arrays[VIEWS] = _features(bag, manifest, VIEWS, bag.views)
    if bag.colour is not None:
        colour = _numbers(bag, COLOUR, bag.colour, (len(bag.instance_ids), COLOUR_CHANNELS))
        _refuse_cells(bag, COLOUR, ~np.isfinite(colour), "not finite")
        arrays[COLOUR] = colour
    if bag.coords is not None:
        coords = _numbers(bag, COORDS, bag.coords, (len(bag.instance_ids), 2))
        _refuse_cells(bag, COORDS, np.isinf(coords), "infinite")
        arrays[COORDS] = coords
    for name, texts in ((INSTANCE_LABELS, bag.instance_labels), (SMEAR, bag.smear)):
        if texts is not None:
            arrays[name] = _texts(bag, name, texts)
    _check_sizes(bag, arrays)
    return arrays


def _check_record(bag: Bag) -> None:
    """Check what goes into ``bag.json``."""
    texts = [("bag_id", bag.bag_id), ("fingerprint", bag.fingerprint)]
    texts += [] if bag.label is None else [("label", bag.label)]
    for item in bag.quarantined:
        texts += [("quarantined file", item.file), ("quarantine reason", item.reason)]
    for name, text in texts:
        if not isinstance(text, str):
            raise InvalidBagError(str(bag.bag_id), f"{name} is {text!r}, expected text")
    if not isinstance(bag.attributes, Mapping):
        raise InvalidBagError(bag.bag_id, f"attributes are {bag.attributes!r}, expected a mapping")
    try:
        encode_bag_id(bag.bag_id)
        as_json(bag.attributes, "attributes")
        as_json([text for _, text in texts], "text")
    except (ValueError, RecursionError) as error:
        raise InvalidBagError(bag.bag_id, str(error)) from error


def _texts(bag: Bag, name: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    texts = tuple(texts)
    if len(texts) != len(bag.instance_ids):
        raise InvalidBagError(
            bag.bag_id, f"{name} has {len(texts)} entries for {len(bag.instance_ids)} instances"
        )
    for text in texts:
        if not isinstance(text, str) or "\0" in text:
            raise InvalidBagError(
                bag.bag_id, f"{name} holds {text!r}, expected text without NUL characters"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidBagError(bag.bag_id, f"{name} {text!r} has no UTF-8 form") from error
    return texts


def _instance_ids(bag: Bag) -> tuple[str, ...]:
    if not bag.instance_ids:
        raise InvalidBagError(bag.bag_id, "it has no instances, expected at least one")
    ids = _texts(bag, INSTANCE_IDS, bag.instance_ids)
    if "" in ids:
        raise InvalidBagError(bag.bag_id, f"instance {ids.index('')} has an empty id")
    seen: set[str] = set()
    twice = sorted({item for item in ids if item in seen or seen.add(item)})  # type: ignore[func-returns-value]
    if twice:
        raise InvalidBagError(
            bag.bag_id, f"instance ids occur twice: {', '.join(twice[:5])} ({len(twice)} in all)"
        )
    return ids


def _features(bag: Bag, manifest: Manifest, name: str, values: NDArray[Any]) -> NDArray[Any]:
    values = np.asarray(values)
    leading = (manifest.num_views - 1,) if name == VIEWS else ()
    expected = (*leading, len(bag.instance_ids), *manifest.feature_shape)
    if values.shape != expected:
        wrong_store = values.shape[len(leading) + 1 :] != manifest.feature_shape or (
            values.shape[: len(leading)] != leading
        )
        text = f"{name} have shape {values.shape}, the store expects {expected}"
        if wrong_store:
            raise StoreMismatchError(f"bag {bag.bag_id!r}: {text}")
        raise InvalidBagError(bag.bag_id, text)
    dtype = np.dtype(manifest.dtype)
    if values.dtype.kind != "f" or values.dtype.itemsize < dtype.itemsize:
        raise StoreMismatchError(
            f"bag {bag.bag_id!r}: {name} are {values.dtype}, the store holds {dtype}; "
            "give them as they were computed, in that type or a wider float"
        )
    _refuse_cells(bag, name, ~np.isfinite(values), "not finite")
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if stored is not values:
        _refuse_cells(
            bag, name, np.isinf(stored), f"too large for {dtype} (at most {np.finfo(dtype).max})"
        )
    return stored


def _numbers(bag: Bag, name: str, values: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise InvalidBagError(
            bag.bag_id, f"{name} is {array.dtype} of shape {array.shape}, expected float of {shape}"
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _refuse_cells(bag: Bag, name: str, bad: NDArray[np.bool_], what: str) -> None:
    """Raise and name the first instance with a bad value, and how many there are."""
    if not bad.any():
        return
    instance_axis = 1 if name == VIEWS else 0
    others = tuple(axis for axis in range(bad.ndim) if axis != instance_axis)
    instances = np.flatnonzero(bad.any(axis=others))
    first = bag.instance_ids[instances[0]]
    raise InvalidBagError(
        bag.bag_id,
        f"{name} of instance {first!r} are {what} "
        f"({len(instances)} of {len(bag.instance_ids)} instances)",
    )


def _check_sizes(bag: Bag, arrays: Mapping[str, ArrayValue]) -> None:
    for name, value in arrays.items():
        if isinstance(value, tuple):
            longest = max(len(text.encode()) for text in value)
            size = len(value) * (longest + 4)
        else:
            size = value.nbytes
        if size > MAX_ARRAY_BYTES:
            raise InvalidBagError(
                bag.bag_id, f"{name} takes {size} bytes, at most {MAX_ARRAY_BYTES} are stored"
            )
