"""Augmentations that all cells of a patient share: one draw a patient and view.

Shapes: B images, S pixels a side.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from aml_mil.embedding.views import SharedKind
from aml_mil.ssl.views import CropRecipe
from stores import JSON

SHARED_VIEWS = "shared_views"  # the recipe's name in the preprocessing of a manifest
SEED = 0
DRAW_RULE = "numpy default_rng([seed, view, first 8 bytes of the SHA-256 of the patient's id])"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourRecipe:
    """Another stain, and nothing else: every pixel stays in its place.

    Attributes:
        jitter: Largest relative change of brightness, contrast and saturation.
        hue: Largest shift of the hue, as a share of the circle.
    """

    jitter: float = 0.3
    hue: float = 0.05

    def build(self) -> A.Compose:
        """Build the pipeline."""
        change = (1 - self.jitter, 1 + self.jitter)
        return A.Compose(
            [
                A.ColorJitter(
                    brightness=change,
                    contrast=change,
                    saturation=change,
                    hue=(-self.hue, self.hue),
                    p=1.0,
                )
            ]
        )


def shared_recipe(kind: SharedKind, size_px: int) -> CropRecipe | ColourRecipe:
    """Describe the augmentation.

    Args:
        kind: ``shared``, or ``colour``.
        size_px: Side of the images, before and after.

    Returns:
        Crop, flips, colour jitter, grey and blur; for ``colour`` a milder jitter alone.

    Source:
        shared: Lazard et al. 2022, https://arxiv.org/abs/2212.03273, and its public code.
    """
    if kind == "colour":
        return ColourRecipe()
    return CropRecipe(
        size_px=size_px, min_scale=0.5, max_scale=1.0, jitter=0.4, saturation=0.4, hue=0.2
    )


def describe_shared_views(kind: SharedKind, size_px: int) -> dict[str, JSON]:
    """Say how the views are drawn, as a store records it."""
    return {"seed": SEED, "draw": DRAW_RULE, **asdict(shared_recipe(kind, size_px))}


class SharedViews:
    """Draws augmentations that depend on the patient and the number of the view alone.

    Args:
        kind: Of the augmentations.
        size_px: Side of the images.
    """

    def __init__(self, kind: SharedKind, size_px: int) -> None:
        self._pipeline = shared_recipe(kind, size_px).build()

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
