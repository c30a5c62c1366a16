"""Stored augmentations: the four outcomes of random flips, or the untouched image alone."""

from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ViewSet = Literal["flips", "identity"]

VIEW_SETS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {"identity": ("identity",), "flips": ("identity", "hflip", "vflip", "both")}
)
# Axes of [B, 3, S, S] that a view turns round.
FLIPPED_AXES: MappingProxyType[str, tuple[int, ...]] = MappingProxyType(
    {"identity": (), "hflip": (3,), "vflip": (2,), "both": (2, 3)}
)


def view_images(images: Tensor, view: str) -> Tensor:
    """Make one view of a batch.

    Args:
        images: [B, 3, S, S], in any memory format.
        view: ``identity``, ``hflip`` (left and right), ``vflip`` (up and down) or ``both``.

    Returns:
        The view, in the channels_last format.
    """
    axes = FLIPPED_AXES[view]
    viewed = images.flip(axes) if axes else images
    return viewed.contiguous(memory_format=torch.channels_last)


def view_pixels(images: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
    """Make one view of a batch of pixels.

    Args:
        images: [B, S, S, 3].
        view: As in `view_images`.

    Returns:
        The view; it shares the memory of the images.
    """
    return np.flip(images, tuple(axis - 1 for axis in FLIPPED_AXES[view]))
