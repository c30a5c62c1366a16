"""Random views of cells, each a pure function of the image, the seed, the epoch and the cell.

Shapes: S pixels a side of the source, s of a crop.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read when albumentations is imported: without it the import asks a server for newer releases.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2

Image = NDArray[np.uint8]
BORDER = cv2.BORDER_REFLECT_101
JITTER_P = 0.8  # Source: V, D.


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRecipe:
    """How crops of one kind are made.

    Attributes:
        size_px: Side of the crop after resizing.
        min_scale: Smallest share of the image's area.
        max_scale: Largest share.
        rotate: Probability of a rotation by any angle.
        jitter: Largest relative change of brightness, contrast and saturation.
        saturation: The same for saturation alone, where it differs.
        hue: Largest shift of the hue, as a share of the circle.
        jitter_p: Probability of the three.
        grey: Probability of grey.
        blur: Probability of a Gaussian blur, s.d. 0.1 to 2 px.
        solarise: Probability of inverting bright pixels.
    """

    size_px: int
    min_scale: float
    max_scale: float
    rotate: float = 0.0
    jitter: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    jitter_p: float = JITTER_P
    grey: float = 0.2
    blur: float = 0.5
    solarise: float = 0.0

    def build(self) -> A.Compose:
        """Build the pipeline: geometry first, then colour."""
        return A.Compose(
            [
                A.Rotate(limit=(-180, 180), border_mode=BORDER, p=self.rotate),
                A.RandomResizedCrop(
                    (self.size_px, self.size_px), scale=(self.min_scale, self.max_scale)
                ),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                jitter_colour(
                    self.jitter, saturation=self.saturation, hue=self.hue, p=self.jitter_p
                ),
                A.ToGray(p=self.grey),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=self.blur),
                A.Solarize(p=self.solarise),
            ]
        )


def jitter_colour(change: float, *, saturation: float, hue: float, p: float) -> A.ColorJitter:
    """Change brightness and contrast by up to a share of each, saturation and hue likewise."""
    return A.ColorJitter(
        brightness=(1 - change, 1 + change),
        contrast=(1 - change, 1 + change),
        saturation=(1 - saturation, 1 + saturation),
        hue=(-hue, hue),
        p=p,
    )


def supervised_pipeline(size_px: int, *, jitter: float = 0.0) -> A.Compose:
    """Rotate, rescale, move, erase and flip, as the supervised encoder of the AML papers.

    Args:
        size_px: Side of the picture.
        jitter: Largest change of colour, see `SupervisedConfig`; 0 for none, as in the papers.
    """
    colour = (
        [jitter_colour(jitter, saturation=jitter, hue=jitter / 4, p=JITTER_P)] if jitter else []
    )
    return A.Compose(
        [
            A.Affine(
                rotate=(-180, 180),
                scale=(0.9, 1.1),
                translate_percent=(-0.1, 0.1),
                border_mode=BORDER,
                p=1.0,
            ),
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Resize(size_px, size_px, interpolation=cv2.INTER_AREA),
            *colour,
            A.Erasing(scale=(0.02, 0.33), p=0.5),
        ]
    )


class Views:
    """All crops of one image.

    Args:
        pipelines: One for each crop, in the order of the method.
        seed: Of the run.
    """

    def __init__(self, pipelines: Sequence[A.Compose], *, seed: int) -> None:
        self.pipelines = tuple(pipelines)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pipelines)

    def __call__(self, image: Image, *, epoch: int, cell: int, earlier: int = 0) -> list[Image]:
        """Draw the crops of one image.

        Args:
            image: [S, S, 3] RGB.
            epoch: From 0.
            cell: Number of the image in the pool.
            earlier: How often it was drawn before in this epoch; each time gives other crops.

        Returns:
            [s, s, 3] for each crop; the same whatever was drawn before.
        """
        numpy_generator = np.random.default_rng((self.seed, epoch, cell, earlier))
        generator: Any = random.Random(int(numpy_generator.integers(2**63)))
        crops = []
        for pipeline in self.pipelines:
            # `set_random_seed` would give every transform a generator of the same seed, so that a
            # horizontal flip always came with a vertical one; all share one generator here.
            pipeline.set_random_state(numpy_generator, generator)
            crops.append(pipeline(image=image)["image"])
        return crops
