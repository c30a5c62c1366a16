"""Small cohorts whose label a few cells of each patient decide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import EpochRecord, Replicate, ResidentBags, TrainedHead, Training
from aml_mil.mil.head import HeadShape
from stores import Bag, Manifest, create_store

CPU = torch.device("cpu")
NUM_FEATURES = 16
NUM_VIEWS = 4
NUM_CLASSES = 3

SMALL_SHAPE = HeadShape(
    feature_shape=(NUM_FEATURES,),
    num_classes=NUM_CLASSES,
    widths=(24, 20, 16, 12),
    attention_hidden=8,
    classifier_hidden=16,
)


def small_config(**values: Any) -> FitConfig:
    settings: dict[str, Any] = {
        "epochs": 24,
        "patience": 8,
        "accumulate": 4,
        "max_cells": 30,
        "lr": 0.1,
        "widths": SMALL_SHAPE.widths,
        "attention_hidden": 8,
        "classifier_hidden": 16,
    }
    return FitConfig(**settings | values)


def bag_sizes(num_bags: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 50, num_bags)


def toy_features(sizes: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Noise, with a quarter of each bag's cells carrying its class; four views of it."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM_VIEWS, int(sizes.sum()), NUM_FEATURES)).astype(np.float32)
    firsts = np.cumsum(sizes) - sizes
    for first, size, target in zip(firsts, sizes, targets, strict=True):
        features[:, first : first + max(2, size // 4), target] += 15
    return features


def toy_bags(
    *,
    num_bags: int = 15,
    dtype: torch.dtype = torch.float64,
    num_stores: int = 1,
    device: torch.device = CPU,
) -> ResidentBags:
    sizes, targets = bag_sizes(num_bags), np.arange(num_bags) % NUM_CLASSES
    return ResidentBags(
        [toy_features(sizes, targets, seed=q) for q in range(num_stores)],
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        targets=targets,
        dtype=dtype,
        device=device,
    )


def toy_replicates(
    bags: ResidentBags, *, num_folds: int = 3, seeds: int = 2, per_fold_stores: bool = False
) -> list[Replicate]:
    folds = np.arange(len(bags.sizes)) // NUM_CLASSES % num_folds
    return [
        Replicate(
            fold=k,
            seed=s,
            store=k if per_fold_stores else 0,
            train=np.flatnonzero((folds != k) & (folds != (k + 1) % num_folds)),
            validation=np.flatnonzero(folds == (k + 1) % num_folds),
        )
        for k in range(num_folds)
        for s in range(seeds)
    ]


def run_to_end(training: Training) -> tuple[list[EpochRecord], list[TrainedHead]]:
    records = []
    while training.is_running:
        records += training.run_epoch()
    return records, training.heads


def manifest(**values: Any) -> Manifest:
    settings: dict[str, Any] = {
        "encoder": "toy",
        "architecture": "tests/toy",
        "weights": "random:0",
        "weights_sha256": "0" * 64,
        "preprocessing": {"image_size_px": 144},
        "numerics": {},
        "views": ("identity", "hflip", "vflip", "both"),
        "feature_shape": (NUM_FEATURES,),
    }
    return Manifest(**settings | values)


def write_store(
    path: Path,
    *,
    labels: Sequence[str | None] | None = None,
    num_bags: int = 30,
    seed: int = 0,
    sizes: np.ndarray | None = None,
    first_id: int = 0,
    **values: Any,
) -> Path:
    """Write a store of patients P00, P01, …, whose classes alternate unless labels are given.

    The features do not follow ``labels``, so that labels can be permuted.
    """
    sizes = bag_sizes(num_bags) if sizes is None else sizes
    targets = np.arange(num_bags) % NUM_CLASSES
    labels = [f"class {c}" for c in targets] if labels is None else labels
    described = manifest(**values)
    features = toy_features(sizes, targets, seed=seed)
    features = features[: described.num_views, :, : described.feature_shape[0]]
    if map_size := described.feature_shape[1:]:
        noise = np.random.default_rng(seed).normal(size=(*features.shape, *map_size))
        features = features[..., None, None] / 5 + noise
    features = features.astype(described.dtype)
    rng = np.random.default_rng(seed)
    with create_store(path, described) as store:
        for i, first in enumerate(np.cumsum(sizes) - sizes):
            rows = features[:, first : first + sizes[i]]
            store.write(
                Bag(
                    bag_id=f"P{i:02d}",
                    features=rows[0],
                    views=rows[1:] if described.num_views > 1 else None,
                    instance_ids=tuple(f"cell_{first_id + n}" for n in range(sizes[i])),
                    colour=rng.uniform(10, 90, (sizes[i], 6)).astype(np.float32),
                    label=labels[i],
                )
            )
    return path
