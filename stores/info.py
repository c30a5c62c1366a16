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
    classes: Counter[str] = Counter()
    num_bags = num_instances = num_quarantined = num_unlabelled = num_bytes = 0
    for brief in store.briefs():
        num_bags += 1
        num_instances += brief.num_instances
        num_quarantined += brief.num_quarantined
        num_bytes += brief.num_bytes
        if brief.label is None:
            num_unlabelled += 1
        else:
            classes[brief.label] += 1
    manifest = store.manifest
    return {
        "path": str(store.path),
        "format": store.format,
        "schema_version": manifest.schema_version,
        "num_bags": num_bags,
        "num_instances": num_instances,
        "num_quarantined": num_quarantined,
        "num_unlabelled": num_unlabelled,
        "classes": dict(sorted(classes.items())),
        "views": list(manifest.views),
        "feature_shape": list(manifest.feature_shape),
        "dtype": manifest.dtype,
        "encoder": manifest.encoder,
        "architecture": manifest.architecture,
        "weights": manifest.weights,
        "weights_sha256": manifest.weights_sha256,
        "trained_on": None if manifest.trained_on is None else len(manifest.trained_on),
        "num_bytes": num_bytes + store.frame_num_bytes(),
    }
