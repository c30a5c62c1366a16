from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_mil.ssl.pool import ImagePool, ImageSource, read_pool

TYPES = ("blast", "lymphocyte", "monocyte")


def paint(kind: int, *, side_px: int, seed: int) -> np.ndarray:
    """A disc whose size is its type, on noise; its colour means nothing."""
    generator = np.random.default_rng(seed)
    image = generator.integers(150, 255, (side_px, side_px, 3), dtype=np.uint8)
    y, x = np.mgrid[:side_px, :side_px] - side_px / 2 + generator.uniform(-2, 2)
    image[y**2 + x**2 < (side_px * (0.15 + 0.12 * kind)) ** 2] = generator.integers(0, 150, 3)
    return image


@pytest.fixture
def sources(tmp_path: Path) -> tuple[ImageSource, ...]:
    """24 cells of 4 patients and 3 types, 32 px."""
    made = []
    for i in range(24):
        path = tmp_path / f"image_{i}.png"
        Image.fromarray(paint(i % 3, side_px=32, seed=i)).save(path)
        made.append(
            ImageSource(
                image_id=f"P{i % 4}/{path.name}",
                path=path,
                patient_id=f"P{i % 4}",
                cell_type=TYPES[i % 3],
            )
        )
    return tuple(made)


@pytest.fixture
def pool(sources: tuple[ImageSource, ...]) -> ImagePool:
    return read_pool(sources, side_px=32, max_bytes=2**20)
