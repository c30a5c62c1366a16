"""Bring a source's bags into a new store, which appears only when it is whole.

The store grows under a hidden name beside its own. Killed, the same import takes it up again;
stopped by bad data, it is removed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stores.admission import admit
from stores.arrays import array_sha256, content_sha256, spec_of
from stores.base import FeatureStore
from stores.documents import JSON, canonical_json
from stores.errors import StoreError
from stores.interchange.conversion import convert
from stores.interchange.errors import SourceError, name_some
from stores.interchange.numbers import storage_dtype, widest
from stores.interchange.source import Finding, Source, SourceBag
from stores.schema import Bag, Manifest
from stores.staged_store import staged_store

UNKNOWN_ENCODER = "unknown"
IMPORTED = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedBag:
    """A bag is done.

    Attributes:
        num_instances: As stored; 0 where nothing of the bag could be.
        bags_done: Including this one.
        bags_total: Of the source.
        findings: About this bag.
    """

    bag_id: str
    num_instances: int
    bags_done: int
    bags_total: int
    findings: tuple[Finding, ...]


def manifest_for(source: Source, *, encoder_name: str | None = None) -> Manifest:
    """State how a source's features were made, as far as it is known.

    In place of a hash of weights stands a hash over the encoder's name, the shape and the dtype.

    Args:
        source: Whose bags all have one feature shape.
        encoder_name: Wins over the source's own.

    Raises:
        SourceError: there is nothing to import, or shapes or types cannot go into one store.
    """
    filled = [bag for bag in source.bags if bag.spec.num_instances]
    if not filled:
        raise SourceError(f"{source.path} holds no bag with an instance; nothing to import")
    shape = _one_shape(source, filled)
    dtype = widest({storage_dtype(bag.spec.dtype, place=bag.place) for bag in filled})
    encoder = encoder_name or source.encoder or UNKNOWN_ENCODER
    stands_in: dict[str, JSON] = {"encoder": encoder, "feature_shape": list(shape), "dtype": dtype}
    try:
        return Manifest(
            encoder=encoder,
            architecture=IMPORTED,
            weights=f"{source.importer}:{source.path.name}",
            weights_sha256=hashlib.sha256(canonical_json(stands_in)).hexdigest(),
            preprocessing={IMPORTED: True},
            numerics={**source.facts, "importer": source.importer, "source": source.path.name},
            views=source.views,
            feature_shape=shape,
            dtype=dtype,
            trained_on=source.trained_on,
        )
    except ValueError as error:
        raise SourceError(f"{source.path} says about itself what no store can: {error}") from error


def _one_shape(source: Source, bags: Sequence[SourceBag]) -> tuple[int, ...]:
    counts = Counter(bag.spec.feature_shape for bag in bags)
    (shape, _), *others = counts.most_common()
    if others:
        odd = [bag for bag in bags if bag.spec.feature_shape != shape]
        raise SourceError(
            f"{source.path}: features have shape {shape} but {odd[0].spec.feature_shape} "
            f"in {name_some([bag.bag_id for bag in odd], total=len(bags))}; "
            "one store holds one shape, import them apart"
        )
    return shape


def import_source(
    source: Source, path: Path, *, encoder_name: str | None = None, strict: bool = False
) -> Iterator[ImportedBag]:
    """Import every bag of a source into a new store.

    Args:
        source: What to import.
        path: Of the new store; its suffix chooses the format.
        encoder_name: Wins over the source's own.
        strict: Stop at the first finding instead of reporting it.

    Yields:
        A record per bag.

    Raises:
        SourceError: the data cannot be imported; no store is left.
        StoreExistsError: there is something at the path already.
        ValueError: the suffix names no format.
    """
    if strict and source.findings:
        raise SourceError(_strictly([str(finding) for finding in source.findings]))
    manifest = manifest_for(source, encoder_name=encoder_name)
    bag_ids = [bag.bag_id for bag in source.bags]
    with staged_store(path, manifest, bag_ids=bag_ids, discard_on=StoreError) as store:
        total = len(source.bags)
        for done, source_bag in enumerate(source.bags, start=1):
            bag, findings = convert(source_bag, manifest)
            if strict and findings:
                raise SourceError(_strictly([str(finding) for finding in findings]))
            if bag is not None:
                _put(store, bag)
            yield ImportedBag(
                bag_id=source_bag.bag_id,
                num_instances=0 if bag is None else len(bag.instance_ids),
                bags_done=done,
                bags_total=total,
                findings=findings,
            )
        if not len(store):
            raise SourceError(f"{source.path} holds no finite features; nothing to import")
        store.log({"event": "import", "importer": source.importer, "source": str(source.path)})


def _strictly(problems: Sequence[str]) -> str:
    return f"strict import: {name_some(problems)}; mend the source or import without strict"


def _put(store: FeatureStore, bag: Bag) -> None:
    """Write a bag unless an interrupted import wrote the very same."""
    if bag.bag_id not in store:
        store.write(bag)
        return
    arrays = admit(bag, store.manifest)
    sha256 = content_sha256({name: (spec_of(a), array_sha256(a)) for name, a in arrays.items()})
    try:
        record = store.record(bag.bag_id)
        is_same = (record.sha256, record.label, record.quarantined) == (
            sha256,
            bag.label,
            bag.quarantined,
        ) and canonical_json(record.attributes) == canonical_json(bag.attributes)
    except StoreError:
        is_same = False
    if not is_same:
        store.replace(bag)
