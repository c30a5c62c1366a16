"""One bag of a source as a bag of a store: never another value, and every loss is a finding."""

from itertools import compress

import numpy as np
from numpy.typing import NDArray

from stores.interchange.errors import SourceError, name_some
from stores.interchange.numbers import coords_as_float32, finite_rows
from stores.interchange.source import Content, Finding, SourceBag
from stores.schema import Bag, Manifest, QuarantinedFile


def convert(source_bag: SourceBag, manifest: Manifest) -> tuple[Bag | None, tuple[Finding, ...]]:
    """Turn a source's bag into a store's; None where no instance is left."""
    problems: list[str] = []
    bag = None
    if not source_bag.spec.num_instances:
        problems.append("no instances; left out")
    else:
        content = source_bag.load()
        _check_content(source_bag, content)
        rows = finite_rows(content.features, content.views)
        bad = np.flatnonzero(~rows)
        if len(bad):
            some = name_some([str(row) for row in bad], total=len(rows))
            problems.append(f"features of rows {some} are NaN or infinite; left out")
        if source_bag.spec.dtype != manifest.dtype:
            problems.append(f"features widened from {source_bag.spec.dtype} to {manifest.dtype}")
        if rows.any():
            bag = _bag(source_bag, content, rows=rows, manifest=manifest, problems=problems)
        else:
            problems.append("no finite instance; left out")
    findings = tuple(Finding(bag_id=source_bag.bag_id, problem=text) for text in problems)
    return bag, findings


def _check_content(source_bag: SourceBag, content: Content) -> None:
    spec = source_bag.spec
    expected = (spec.num_instances, *spec.feature_shape)
    if content.features.shape != expected:
        raise SourceError(
            f"{source_bag.place} changed while it was read: features of shape "
            f"{content.features.shape}, expected {expected}"
        )
    for name in ("instance_ids", "coords", "colour", "instance_labels", "smear"):
        values = getattr(content, name)
        if values is not None and len(values) != spec.num_instances:
            raise SourceError(
                f"{source_bag.place}: {len(values)} {name} for {spec.num_instances} features; "
                "make the source anew"
            )


def _bag(
    source_bag: SourceBag,
    content: Content,
    *,
    rows: NDArray[np.bool_],
    manifest: Manifest,
    problems: list[str],
) -> Bag:
    ids = content.instance_ids or tuple(str(i) for i in range(len(rows)))
    coords = None
    if content.coords is not None:
        coords, exact = coords_as_float32(content.coords, place=source_bag.place)
        if not exact:
            problems.append(f"coords rounded from {content.coords.dtype} to float32")
    left_out = tuple(
        QuarantinedFile(file=ids[row], reason="features are NaN or infinite")
        for row in np.flatnonzero(~rows)
    )
    kept = slice(None) if rows.all() else rows  # a slice copies nothing
    labels, smear, views = content.instance_labels, content.smear, content.views
    return Bag(
        bag_id=source_bag.bag_id,
        features=content.features[kept].astype(manifest.dtype, copy=False),
        instance_ids=tuple(compress(ids, rows)),
        colour=None if content.colour is None else content.colour[kept],
        views=None if views is None else views[:, kept].astype(manifest.dtype, copy=False),
        instance_labels=None if labels is None else tuple(compress(labels, rows)),
        smear=None if smear is None else tuple(compress(smear, rows)),
        coords=None if coords is None else coords[kept],
        label=source_bag.label,
        attributes=source_bag.attributes,
        quarantined=(*source_bag.quarantined, *left_out),
    )
