"""Stored views: the untouched image, flips, or augmentations that a patient's cells share."""

import re
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SharedKind = Literal["shared", "colour"]
# Fewest views of a kind: two of `shared` are contrasted with each other, and they must differ.
MIN_VIEWS: MappingProxyType[SharedKind, int] = MappingProxyType({"shared": 2, "colour": 1})
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
        views: ``identity``, ``flips``, or ``shared:K`` or ``colour:K``: the untouched image and K
            augmentations that all cells of a patient share.

    Returns:
        ``identity`` and the others; for ``shared:2`` ``("identity", "shared1", "shared2")``.

    Raises:
        ValueError: There is no such set, or K is too small.
    """
    if views in VIEW_SETS:
        return VIEW_SETS[views]
    kind, _, number = views.partition(":")
    for shared, least in MIN_VIEWS.items():
        if kind == shared and re.fullmatch(r"[0-9]+", number):
            if int(number) < least:
                message = f"expected {kind}:K with K of at least {least}, got {views!r}"
                raise ValueError(message)
            return ("identity", *(f"{kind}{place}" for place in range(1, int(number) + 1)))
    message = f"expected views to be flips, identity, shared:K or colour:K, got {views!r}"
    raise ValueError(message)


def shared_kind(views: tuple[str, ...]) -> SharedKind | None:
    """Say of which kind the augmentations are that all cells of a patient share; None without."""
    for kind in MIN_VIEWS:
        if any(re.fullmatch(rf"{kind}[0-9]+", name) for name in views):
            return kind
    return None


def view_set(views: tuple[str, ...]) -> str:
    """Name the set that views are of, such as ``shared:2``; the views themselves where it is none.

    The reverse of `view_names`.
    """
    kind = shared_kind(views)
    sets = [*VIEW_SETS, f"{kind}:{len(views) - 1}"] if kind else [*VIEW_SETS]
    return next((name for name in sets if view_names(name) == views), ",".join(views))


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


def view_pixels(images: NDArray[np.uint8], view: str, *, out: NDArray[np.uint8]) -> None:
    """Make one view of a batch of pixels.

    Args:
        images: [B, S, S, 3].
        view: As in `view_images`.
        out: Where it is written, [B, S, S, 3].
    """
    axes = FLIPPED_AXES[view]
    if not axes:
        out[...] = images
        return
    code = -1 if len(axes) == 2 else axes[0] - 2  # OpenCV's: 0 up and down, 1 left and right
    for image, place in zip(images, out, strict=True):
        cv2.flip(image, code, dst=place)
