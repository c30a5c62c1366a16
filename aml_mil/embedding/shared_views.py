"""Augmentations that all cells of a patient share: one draw a patient and view.

Shapes: B images, S pixels a side.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aml_mil.ssl.views import CropRecipe
from stores import JSON

SHARED_VIEWS = "shared_views"  # the recipe's name in the preprocessing of a manifest
SEED = 0
DRAW_RULE = "numpy default_rng([seed, view, first 8 bytes of the SHA-256 of the patient's id])"


def shared_recipe(size_px: int) -> CropRecipe:
    """Describe the augmentation.

    Args:
        size_px: Side of the images, before and after.

    Returns:
        Crop, flips, colour jitter, grey and blur.

    Source:
        Lazard et al. 2022, https://arxiv.org/abs/2212.03273, and its public code.
    """
    return CropRecipe(
        size_px=size_px, min_scale=0.5, max_scale=1.0, jitter=0.4, saturation=0.4, hue=0.2
    )


def describe_shared_views(size_px: int) -> dict[str, JSON]:
    """Say how the views are drawn, as a store records it."""
    return {"seed": SEED, "draw": DRAW_RULE, **asdict(shared_recipe(size_px))}


class SharedViews:
    """Draws augmentations that depend on the patient and the number of the view alone.

    Args:
        size_px: Side of the images.
    """

    def __init__(self, size_px: int) -> None:
        self._pipeline = shared_recipe(size_px).build()

    def __call__(
        self, images: NDArray[np.uint8], patient_ids: Sequence[str], *, view: int
    ) -> NDArray[np.uint8]:
        """Augment a batch.

        Args:
            images: [B, S, S, 3]; the last of them may belong to nobody.
            patient_ids: Whose the first images are; the cells of a patient lie together.
            view: From 1.

        Returns:
            [B, S, S, 3]; images of nobody stay as they are.
        """
        viewed = images.copy()
        place = 0
        for patient_id, cells in groupby(patient_ids):
            for _ in cells:
                self._restart(patient_id, view)
                viewed[place] = self._pipeline(image=images[place])["image"]
                place += 1
        return viewed

    def _restart(self, patient_id: str, view: int) -> None:
        """Go back to where every cell of the patient starts in this view."""
        digest = hashlib.sha256(patient_id.encode()).digest()
        generator = np.random.default_rng([SEED, view, int.from_bytes(digest[:8], "big")])
        second: Any = random.Random(int(generator.integers(2**63)))
        self._pipeline.set_random_state(generator, second)
