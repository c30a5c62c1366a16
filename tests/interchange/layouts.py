"""Neighbours' files, written exactly in their layouts, and small helpers to import them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.interchange import open_source
from stores import Bag, FeatureStore, Manifest, QuarantinedFile, create_store, open_store
from stores.interchange import Finding, ImportOptions, import_source

Array = NDArray[Any]
TRIDENT_COORDS = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "s",
    "savetodir": "/data/patches",
    "level0_width": 40000,
    "level0_height": 30000,
}


def features(num: int, width: int = 3, *, seed: int = 0, dtype: str = "float32") -> Array:
    """Numbers that use every bit of their type."""
    return np.random.default_rng(seed).standard_normal((num, width)).astype(dtype)


def places(num: int, dtype: str = "int32") -> Array:
    return (np.arange(2 * num).reshape(num, 2) * 256).astype(dtype)


def write_table(path: Path, header: Sequence[str], *rows: Sequence[object]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_h5(path: Path, arrays: Mapping[str, Array], **attributes: Mapping[str, Any]) -> None:
    """One dataset an array; attributes of a dataset by its name, of the file as ``file``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes.get("file", {}))
        for name, values in arrays.items():
            file.create_dataset(name, data=values).attrs.update(attributes.get(name, {}))


def write_clam(root: Path, bags: Mapping[str, Array], *, labels: bool = True) -> Path:
    for slide, values in bags.items():
        arrays = {"features": values, "coords": places(len(values))}
        write_h5(root / "h5_files" / f"{slide}.h5", arrays)
    if labels:
        rows = [(f"case {slide}", slide, "AML" if i % 2 else "APL") for i, slide in enumerate(bags)]
        write_table(root / "labels.csv", ("case_id", "slide_id", "label"), *rows)
    return root


def write_pt(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def write_trident(root: Path, bags: Mapping[str, Array], encoder: object = "uni_v1") -> Path:
    for name, values in bags.items():
        with h5py.File(root / f"{name}.h5", "w") as file:
            about = {"name": name, "savetodir": str(root), "encoder": encoder}
            shape = (None, values.shape[1])
            chunks = (1, values.shape[1])
            created = file.create_dataset("features", data=values, chunks=chunks, maxshape=shape)
            created.attrs.update(about)
            created = file.create_dataset(
                "coords", data=places(len(values), "int64"), chunks=(1, 2), maxshape=(None, 2)
            )
            created.attrs.update(TRIDENT_COORDS)
    return root


def write_slideflow(root: Path, bags: Mapping[str, Array]) -> Path:
    for slide, values in bags.items():
        write_pt(root / f"{slide}.pt", torch.from_numpy(values))
        np.savez(root / f"{slide}.index.npz", places(len(values)))
    width = next(iter(bags.values())).shape[1]
    config = {
        "extractor": {"class": "slideflow.model.extractors.ctranspath.CTransPath", "kwargs": {}},
        "normalizer": None,
        "num_features": width,
        "tile_px": 299,
        "tile_um": 302,
    }
    (root / "bags_config.json").write_text(json.dumps(config))
    return root


def store_of_cells(path: Path, *, dtype: str = "float32", shape: tuple[int, ...] = (4,)) -> Path:
    """A store as embed writes it: views, colour, cell types, odd ids, quarantined files."""
    rng = np.random.default_rng(5)
    manifest = Manifest(
        encoder="resnet18",
        architecture="timm/resnet18",
        weights="random:0",
        weights_sha256="ab" * 32,
        preprocessing={"image_size_px": 144},
        numerics={},
        views=("identity", "hflip"),
        feature_shape=shape,
        dtype=dtype,
        trained_on=("P1", "P9"),
    )
    with create_store(path, manifest) as store:
        for i, (bag_id, label) in enumerate((("P1", "AML"), ("P, 2", "APL"), ("a/b", None))):
            num = 2 + i
            store.write(
                Bag(
                    bag_id=bag_id,
                    features=rng.standard_normal((num, *shape)).astype(dtype),
                    views=rng.standard_normal((1, num, *shape)).astype(dtype),
                    instance_ids=tuple(f"smear/image_{j}.tif" for j in range(num)),
                    instance_labels=("blast", *[""] * (num - 1)),
                    smear=("smear",) * num,
                    colour=rng.random((num, 6), dtype=np.float32),
                    label=label,
                    attributes={"age": 40 + i, "pb": {"total": None}},
                    quarantined=(QuarantinedFile(file="cut.tif", reason="truncated"),),
                )
            )
    return path


def bring_in(
    layout: str,
    source: Path,
    out: Path,
    *,
    strict: bool = False,
    name: str | None = None,
    **given: Any,
) -> list[Finding]:
    """Import everything and return all findings."""
    opened = open_source(layout, source, ImportOptions(**given))
    findings = [*opened.findings]
    for bag in import_source(opened, out, encoder_name=name, strict=strict):
        findings += bag.findings
    return findings


def bags_of(path: Path) -> dict[str, Bag]:
    with open_store(path) as store:
        return {bag_id: store.read(bag_id) for bag_id in store.bag_ids}


def opened(path: Path) -> FeatureStore:
    return open_store(path)
