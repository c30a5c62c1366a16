"""Stored augmentations: the four outcomes of random flips, or the untouched image alone."""

from types import MappingProxyType
from typing import Literal

import torch
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
