"""What a store holds, from the commit records alone."""

from collections import Counter
from typing import Any

from stores.base import FeatureStore


def store_info(store: FeatureStore) -> dict[str, Any]:
    """Count what a store holds; reads ``bag.json`` of every bag and no array.

    Returns:
        JSON-ready fields; ``classes`` maps each label to its number of bags, ``num_unlabelled``
        counts those without.

    Raises:
        BagDamagedError: a ``bag.json`` is damaged.
    """
    records = [store.record(bag_id) for bag_id in store.bag_ids]
    classes = Counter(record.label for record in records if record.label is not None)
    manifest = store.manifest
    return {
        "path": str(store.path),
        "format": store.format,
        "schema_version": manifest.schema_version,
        "num_bags": len(records),
        "num_instances": sum(record.num_instances for record in records),
        "num_quarantined": sum(len(record.quarantined) for record in records),
        "num_unlabelled": sum(record.label is None for record in records),
        "classes": dict(sorted(classes.items())),
        "views": list(manifest.views),
        "feature_shape": list(manifest.feature_shape),
        "dtype": manifest.dtype,
        "encoder": manifest.encoder,
        "architecture": manifest.architecture,
        "weights": manifest.weights,
        "weights_sha256": manifest.weights_sha256,
        "trained_on": None if manifest.trained_on is None else len(manifest.trained_on),
        "num_bytes": store.num_bytes(),
    }
