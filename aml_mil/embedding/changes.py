"""What has changed in a patient since its bag was written."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from aml_mil.cohort import FileHashes, Patient, source_fingerprint
from aml_mil.embedding.assembly import annotate
from stores import Bag, BagDamagedError, FeatureStore

MAX_NAMED = 5


def describe_changes(store: FeatureStore, patient: Patient, hashes: FileHashes) -> tuple[str, ...]:
    """Compare a patient as it is with its bag.

    Args:
        store: Has a bag of the patient.
        patient: As read from the cohort now.
        hashes: Of all its files now.

    Returns:
        One sentence for each difference, such as ``label AML → APL``; empty where the bag fits.
    """
    try:
        bag = store.read(patient.patient_id)
    except BagDamagedError as error:
        return (f"its bag is damaged: {error.reason}",)
    reasons: list[str] = []
    if source_fingerprint(hashes) != bag.fingerprint:
        reasons += _file_changes(bag, hashes.instance_ids)
    if bag.label != patient.label:
        reasons.append(f"label {_show(bag.label)} → {_show(patient.label)}")
    reasons += _attribute_changes(bag.attributes, patient.attributes)
    if not reasons:
        reasons += _annotation_changes(bag, patient)
    return tuple(reasons)


def _file_changes(bag: Bag, names: Sequence[str]) -> Iterator[str]:
    before = [*bag.instance_ids, *(item.file for item in bag.quarantined)]
    known, present = set(before), set(names)
    added = [name for name in names if name not in known]
    removed = [name for name in before if name not in present]
    if added:
        yield f"images added: {_name_some(added)}"
    if removed:
        yield f"images removed: {_name_some(removed)}"
    if not added and not removed:
        yield "contents of images differ"


def _attribute_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    changes = [f"{name} {_show(before.get(name))} → {_show(now.get(name))}" for name in names]
    return [f"attributes: {_name_some(changes)}"] if changes else []


def _annotation_changes(bag: Bag, patient: Patient) -> Iterator[str]:
    by_name = {cell.instance_id: cell for cell in patient.cells}
    now = annotate([by_name[name] for name in bag.instance_ids])
    for what, old, new in (
        ("cell types", bag.instance_labels, now.instance_labels),
        ("smears", bag.smear, now.smear),
    ):
        if old != new:
            unknown = ("",) * len(bag.instance_ids)
            pairs = zip(bag.instance_ids, old or unknown, new or unknown, strict=True)
            changes = [f"{name} {_show(a)} → {_show(b)}" for name, a, b in pairs if a != b]
            yield f"{what}: {_name_some(changes)}"
    if (bag.coords is None) != (now.coords is None) or (
        bag.coords is not None
        and now.coords is not None
        and not np.array_equal(bag.coords, now.coords, equal_nan=True)
    ):
        yield "positions of cells differ"


def _show(value: object) -> str:
    return "none" if value in (None, "") else str(value)


def _name_some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > MAX_NAMED else ""
    return f"{', '.join(islice(names, MAX_NAMED))}{more} ({len(names)})"
