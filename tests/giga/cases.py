"""Small stores of patients, with and without places, and runs on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aml_mil.giga.bags import PatientBags, read_bags
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.run import GigaRun
from stores import Bag, Manifest, create_store

CPU = torch.device("cpu")
SHARED = ("identity", "shared1", "shared2")
NUM_FEATURES = 8
SMALL: dict[str, Any] = {
    "epochs": 6,
    "width": 16,
    "head_out": 8,
    "cells": 4,
    "lr": 0.3,
    "device": "cpu",
}


def manifest(**values: Any) -> Manifest:
    settings: dict[str, Any] = {
        "encoder": "toy",
        "architecture": "tests/toy",
        "weights": "random:0",
        "weights_sha256": "0" * 64,
        "preprocessing": {"image_size_px": 144},
        "numerics": {},
        "views": SHARED,
        "feature_shape": (NUM_FEATURES,),
        "dtype": "float32",
        "trained_on": (),
    }
    return Manifest(**settings | values)


def write_patients(
    path: Path,
    features: Sequence[np.ndarray],
    *,
    labels: Sequence[str | None],
    coords: Sequence[np.ndarray] | None = None,
    **values: Any,
) -> Path:
    """Write patients P00, P01, … with features [V, n, D…] each."""
    described = manifest(**values)
    rng = np.random.default_rng(9)
    with create_store(path, described) as store:
        for i, views in enumerate(features):
            rows = views.astype(described.dtype)
            store.write(
                Bag(
                    bag_id=f"P{i:02d}",
                    features=rows[0],
                    views=rows[1:] if described.num_views > 1 else None,
                    instance_ids=tuple(f"cell_{n}" for n in range(rows.shape[1])),
                    colour=rng.uniform(10, 90, (rows.shape[1], 6)).astype(np.float32),
                    coords=None if coords is None else coords[i].astype(np.float32),
                    label=labels[i],
                )
            )
    return path


def toy_patients(
    path: Path,
    *,
    num: int = 12,
    sizes: Sequence[int] | None = None,
    located: bool = False,
    seed: int = 0,
    **values: Any,
) -> Path:
    """Patients whose cells lie around a place of their own, and around their class's."""
    rng = np.random.default_rng(seed)
    shape = manifest(**values).feature_shape
    num_views = manifest(**values).num_views
    sizes = [int(n) for n in rng.integers(6, 30, num)] if sizes is None else sizes
    features = [
        rng.normal(size=shape) + 2.0 * (i % 2) + 0.5 * rng.normal(size=(num_views, n, *shape))
        for i, n in enumerate(sizes)
    ]
    return write_patients(
        path,
        features,
        labels=["AML" if i % 2 else "APL" for i in range(num)],
        coords=[rng.uniform(0, 40, (n, 2)) for n in sizes] if located else None,
        **values,
    )


def bags_of(
    path: Path, patient_ids: Sequence[str] | None = None, *, device: torch.device = CPU
) -> PatientBags:
    return read_bags(path, device=device, patient_ids=patient_ids)


def small_run(bags: PatientBags, out: Path, *, is_resumed: bool = False, **changes: Any) -> GigaRun:
    config = GigaConfig(**SMALL | changes)
    return GigaRun(bags, config, out, device=torch.device(config.device), is_resumed=is_resumed)


def finish(run: GigaRun) -> GigaRun:
    for _ in run.train():
        pass
    return run
