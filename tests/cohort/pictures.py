"""Pictures that look like photographs, and their files in memory."""

import io
from typing import Any

import numpy as np
from PIL import Image


def photograph(width: int = 48, height: int = 48, *, seed: int = 0) -> np.ndarray:
    """Smooth colours with some grain, [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def encode(
    pixels: np.ndarray, file_format: str, *, mode: str | None = None, **options: Any
) -> bytes:
    """Write pixels as a file in memory."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, file_format, **options)
    return buffer.getvalue()
