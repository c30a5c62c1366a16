"""The stores under ``tests/data/v1``: what they hold, and how they were made.

``python -m tests.stores.golden`` wrote them once. They stand for every store of format version 1
that is out there, so they are never written again: a change that cannot read them needs a new
version and a migration.
"""

import json
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from stores import Bag, Manifest, QuarantinedFile, create_store, files
from stores.log import _spell

FOLDER = Path(__file__).parents[1] / "data" / "v1"
NAMES = ("cohort.zarr", "cohort.h5store")
LONG_ID = "patient/" + "é" * 60
EVENT = {"time": "2025-01-01T00:00:00.000+00:00", "host": "lab", "event": "embed", "cells": 5}


def golden_manifest() -> Manifest:
    return Manifest(
        encoder="resnet18",
        architecture="timm/resnet18",
        weights="weights.safetensors",
        weights_sha256="5f" * 32,
        preprocessing={"image_size_px": 144, "mean": [0.485, 0.456, 0.406], "resize": "crop"},
        numerics={"compute_dtype": "float32", "batch_size": 64, "versions": {"torch": "2.11"}},
        views=("identity", "hflip"),
        feature_shape=(4,),
        trained_on=("BZF", LONG_ID),
    )


def golden_bags() -> tuple[Bag, Bag]:
    features = (np.arange(12).reshape(3, 4) / 8 - 0.5).astype(np.float16)
    full = Bag(
        bag_id="AQK",
        features=features,
        views=-features[None],
        instance_ids=("s1/image_0.tif", "s1/µ_1.tif", "s2/image_10.tif"),
        colour=(np.arange(18, dtype=np.float32).reshape(3, 6) / 4),
        instance_labels=("myeloblast", "", "promyélocyte"),
        smear=("s1", "s1", "s2"),
        coords=np.array([[1.5, 2], [np.nan, np.nan], [-3, 1e6]], dtype=np.float32),
        label="APL",
        attributes={"age": 61, "sex": "f", "leucocytes_per_µl": 12.5, "note": None, "ok": True},
        quarantined=(QuarantinedFile(file="s1/image_2.tif", reason="truncated"),),
        fingerprint="0123abcd",
    )
    bare = Bag(
        bag_id=LONG_ID,
        features=np.zeros((2, 4), np.float16),
        views=np.ones((1, 2, 4), np.float16),
        instance_ids=("a", "b"),
    )
    return full, bare


def library_versions() -> dict[str, str]:
    """The versions that decide on the bytes of a bag."""
    return {
        "zarr": version("zarr"),
        "h5py": version("h5py"),
        "hdf5": h5py.version.hdf5_version,
        "numpy": version("numpy"),
    }


def write_golden(folder: Path) -> None:
    for name in NAMES:
        store = create_store(folder / name, golden_manifest())
        for bag in golden_bags():
            store.write(bag)
        files.append_line(store.path / "log.jsonl", _spell(EVENT))
        (store.path / ".tmp").rmdir()  # git keeps no empty folder


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_golden(FOLDER)
    (FOLDER / "versions.json").write_text(json.dumps(library_versions(), indent=1) + "\n")
