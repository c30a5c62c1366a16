"""Small manifests and bags with known content."""

from typing import Any

import numpy as np

from stores import Bag, Manifest, QuarantinedFile

SUFFIXES = (".zarr", ".h5store")


def make_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "encoder": "resnet18",
        "architecture": "timm/resnet18",
        "weights": "weights.safetensors",
        "weights_sha256": "5f" * 32,
        "preprocessing": {"image_size_px": 144, "mean": (0.485, 0.456, 0.406), "resize": "crop"},
        "numerics": {"compute_dtype": "float32", "batch_size": 64},
        "views": ("identity", "hflip"),
        "feature_shape": (8,),
        "dtype": "float16",
        "trained_on": ("A", "B"),
    }
    return Manifest(**{**fields, **changes})


def make_bag(
    bag_id: str = "AQK", *, manifest: Manifest | None = None, num: int = 5, seed: int = 0, **changes
) -> Bag:
    manifest = manifest or make_manifest()
    rng = np.random.default_rng(seed)
    shape = (num, *manifest.feature_shape)
    views = manifest.num_views - 1
    fields: dict[str, Any] = {
        "bag_id": bag_id,
        "features": rng.standard_normal(shape).astype(manifest.dtype),
        "views": rng.standard_normal((views, *shape)).astype(manifest.dtype) if views else None,
        "instance_ids": tuple(f"smear/image_{i}.tif" for i in range(num)),
        "colour": rng.random((num, 6), dtype=np.float32),
        "instance_labels": tuple("myeloblast" if i % 2 else "" for i in range(num)),
        "smear": ("smear",) * num,
        "coords": rng.random((num, 2), dtype=np.float32),
        "label": "APL",
        "attributes": {"age": 61, "sex": "f", "leucocytes_per_µl": 12.5, "note": None},
        "quarantined": (QuarantinedFile(file="smear/image_9.tif", reason="truncated"),),
        "fingerprint": "0123",
    }
    return Bag(**{**fields, **changes})


def bag_values(bag: Bag) -> dict[str, Any]:
    """All fields of a bag as comparable values: arrays as dtype, shape and bytes."""
    values = {name: getattr(bag, name) for name in Bag.__slots__}
    return {
        name: (value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else value
        for name, value in values.items()
    }


def folder_bytes(path) -> dict[str, bytes]:
    """The files of a folder by relative path."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
