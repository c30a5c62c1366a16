"""Measure an encoder on fixed samples of its training images.

Shapes: B images, S pixels a side, D features.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aml_mil.cohort import fit_image
from aml_mil.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from aml_mil.ssl.knn import knn_accuracy
from aml_mil.ssl.pool import ImagePool

NUM_IMAGES = 1024
BATCH_SIZE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images that are taken again after every epoch.

    Attributes:
        images: [B, S, S, 3] uint8, at the encoder's size.
        cell_types: Of each; "" for none.
        patients: Of each.
    """

    images: Tensor
    cell_types: tuple[str, ...]
    patients: tuple[str, ...]

    def batches(self, device: torch.device) -> Iterator[Tensor]:
        """Yield an encoder's inputs, [b, 3, S, S], in batches of nearly one size."""
        normalise = PixelNorm(device)
        for part in self.images.tensor_split(math.ceil(len(self.images) / BATCH_SIZE)):
            yield normalise(part.to(device))


def draw_sample(
    pool: ImagePool, *, image_size_px: int, seed: int, is_annotated_first: bool = False
) -> Sample:
    """Choose images at random.

    Args:
        pool: Images of the run.
        image_size_px: Side to fit them to.
        seed: Of the run.
        is_annotated_first: Take images with a cell type before others; often they are of a few
            patients only, and say nothing of how all images look.
    """
    order = np.random.default_rng((seed, 1)).permutation(len(pool))
    if is_annotated_first:
        annotated = np.array([bool(source.cell_type) for source in pool.sources])
        order = order[np.argsort(~annotated[order], kind="stable")]
    chosen = sorted(order[:NUM_IMAGES])
    images = np.stack([fit_image(pool.image(i), image_size_px) for i in chosen])
    return Sample(
        images=torch.from_numpy(images),
        cell_types=tuple(pool.sources[i].cell_type for i in chosen),
        patients=tuple(pool.sources[i].patient_id for i in chosen),
    )


class PixelNorm:
    """Turn pixels, [B, S, S, 3] uint8, into an encoder's input, [B, 3, S, S], channels last.

    Args:
        device: Of the pixels. Bringing mean and s.d. there waits for it: once, not at every step.
        mean: Of the channels on the scale 0 to 1.
        std: Of the channels.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self._mean = torch.tensor(mean, device=device) * 255
        self._std = torch.tensor(std, device=device) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise one batch."""
        return ((images.float() - self._mean) / self._std).permute(0, 3, 1, 2)


@torch.no_grad()
def encode(
    network: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """Compute features, [B, D] in float32 on the CPU, in evaluation mode.

    Args:
        network: [B, 3, S, S] → [B, D].
        images: [B, S, S, 3] uint8.
        device: Of the network.
        mean: Of the channels that the network was trained with, see `PixelNorm`.
        std: Of the channels.
    """
    was_training = network.training
    network.eval()
    parts = torch.split(images, BATCH_SIZE)
    normalise = PixelNorm(device, mean=mean, std=std)
    features = [network(normalise(part.to(device))).float().cpu() for part in parts]
    network.train(was_training)
    return torch.cat(features)


def measure_knn(features: Tensor, sample: Sample) -> float | None:
    """Name cell types by neighbours from other patients; None where that cannot be measured."""
    return knn_accuracy(features, sample.cell_types, _owners(sample.patients))


def _owners(patients: Sequence[str]) -> tuple[str, ...]:
    """Let images without a patient be nobody's but their own."""
    return tuple(patient or f"image {i}" for i, patient in enumerate(patients))
