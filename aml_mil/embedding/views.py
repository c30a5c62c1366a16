"""Stored views: the untouched image, flips, or augmentations that a patient's cells share."""

import re
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARED_PREFIX = "shared"
MIN_SHARED_VIEWS = 2
VIEW_SETS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {"identity": ("identity",), "flips": ("identity", "hflip", "vflip", "both")}
)
# Axes of [B, 3, S, S] that a view turns round.
FLIPPED_AXES: MappingProxyType[str, tuple[int, ...]] = MappingProxyType(
    {"identity": (), "hflip": (3,), "vflip": (2,), "both": (2, 3)}
)


def view_names(views: str) -> tuple[str, ...]:
    """Name the views of a set, in the order in which a store holds them.

    Args:
        views: ``identity``, ``flips``, or ``shared:K``: the untouched image and K augmentations
            that all cells of a patient share.

    Returns:
        ``identity`` and the others; for ``shared:2`` ``("identity", "shared1", "shared2")``.

    Raises:
        ValueError: There is no such set, or K is below 2.
    """
    if views in VIEW_SETS:
        return VIEW_SETS[views]
    match = re.fullmatch(rf"{SHARED_PREFIX}:([0-9]+)", views)
    if match is None:
        message = f"expected views to be flips, identity or shared:K, got {views!r}"
        raise ValueError(message)
    num_views = int(match[1])
    if num_views < MIN_SHARED_VIEWS:
        message = (
            f"expected shared:K with K of at least {MIN_SHARED_VIEWS}, got {views!r}: two views of "
            "a patient are contrasted, and they must differ"
        )
        raise ValueError(message)
    return ("identity", *(f"{SHARED_PREFIX}{number}" for number in range(1, num_views + 1)))


def has_shared_views(views: tuple[str, ...]) -> bool:
    """Whether a list of views holds augmentations that the cells of a patient share."""
    return any(re.fullmatch(rf"{SHARED_PREFIX}[0-9]+", name) for name in views)


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
