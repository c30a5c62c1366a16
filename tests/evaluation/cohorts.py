"""Tiny cohorts of images, and runs on them.

A cell is one large disc, or four small ones of the same area, so that its form says nothing about
mean and s.d. of the colour. The label is a tint, or the form.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, embed
from aml_mil.encoders import load_encoder
from aml_mil.mil import FitConfig, fit

SIZE_PX = 48
CLASSES = ("blue", "red")
EMBED = EmbedConfig(views="identity", batch_size=16)


class Fitted(NamedTuple):
    """A cohort of images, its store, and a run on it."""

    cohort: Path
    store: Path
    run: Path


def fit_on(
    cohort_path: Path, folder: Path, *, encoder: str = "random:0", embedding: EmbedConfig = EMBED
) -> Fitted:
    """Embed a cohort and fit small heads on it."""
    cohort = read_cohort(cohort_path)
    loaded = load_encoder("resnet18", weights=encoder, image_size_px=SIZE_PX)
    store, run = folder / "features.zarr", folder / "run"
    for _ in embed(cohort, loaded, store, embedding):
        pass
    config = FitConfig(
        num_folds=3,
        seeds=2,
        epochs=100,
        lr=0.005,
        accumulate=4,
        widths=(32, 32, 32, 32),
        attention_hidden=8,
        classifier_hidden=8,
    )
    for _ in fit(store, out_dir=run, config=config):
        pass
    return Fitted(cohort_path, store, run)


def draw_cohort(
    folder: Path,
    *,
    label_is: Literal["tint", "form"],
    num_patients: int = 24,
    cells: int = 4,
    seed: int = 0,
    first_id: int = 0,
) -> Path:
    """Write a cohort in the MLL layout with cell types; patients alternate between two classes."""
    rng = np.random.default_rng(seed)
    rows, types = ["patient_id,bag_label"], ["patient_id,image,cell_type"]
    for number in range(first_id, first_id + num_patients):
        label = number % 2
        patient_id = f"P{number:02}"
        rows.append(f"{patient_id},{CLASSES[label]}")
        place = folder / "data" / CLASSES[label] / patient_id
        place.mkdir(parents=True)
        tint = np.array([1.0, 1.0, 1.0]) + rng.normal(0, 0.01, 3)
        if label_is == "tint":
            tint *= [[0.9, 1.0, 1.06], [1.06, 1.0, 0.9]][label]
        for i in range(cells):
            is_whole = label if label_is == "form" else rng.integers(2)
            image = _draw(rng, is_whole=bool(is_whole), tint=tint)
            Image.fromarray(image).save(place / f"image_{i}.png")
            types.append(f"{patient_id},image_{i}.png,{'myeloblast' if is_whole else 'monocyte'}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    (folder / "cell_annotations.csv").write_text("\n".join(types) + "\n")
    return folder


def _draw(rng: np.random.Generator, *, is_whole: bool, tint: np.ndarray) -> np.ndarray:
    radius_px, spread_px = (14, 0) if is_whole else (7, 11)
    axis = np.arange(SIZE_PX) - SIZE_PX / 2 + rng.uniform(-2, 2)
    inside = np.zeros((SIZE_PX, SIZE_PX, 1), dtype=bool)
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        distance = (axis[:, None] - x * spread_px) ** 2 + (axis[None] - y * spread_px) ** 2
        inside |= (distance < radius_px**2)[..., None]
    image = np.where(inside, [110.0, 70.0, 140.0], [215.0, 205.0, 210.0])
    image = image * tint + rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)
