"""What must hold before a run begins."""

import math
from collections.abc import Collection

import torch
from torch import nn

from aml_mil.cohort import FoldsError
from aml_mil.cohort.errors import name_some
from aml_mil.ranks import num_ranks
from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.dino import DinoConfig
from aml_mil.ssl.errors import LabelsMissingError, PretrainError, TooFewImagesError
from aml_mil.ssl.method import RunLength
from aml_mil.ssl.pool import ImagePool, ImageSource, count_types, only_labelled
from aml_mil.ssl.schedules import length_in_steps
from aml_mil.ssl.supervised import SupervisedConfig
from aml_mil.ssl.swav import SwavConfig


def choose_sources(
    sources: tuple[ImageSource, ...], config: PretrainConfig
) -> tuple[ImageSource, ...]:
    """Take the images that a method can learn from.

    Args:
        sources: Of the cohort, or of a fold's training patients.
        config: Settings of the method.

    Returns:
        All; for supervised training those with a cell type.

    Raises:
        LabelsMissingError: Supervised training finds fewer than two cell types.
        TooFewImagesError: They do not fill one batch.
    """
    if isinstance(config, SupervisedConfig):
        types = count_types(sources)
        if len(types) < 2:
            message = (
                f"supervised training needs cells of 2 types or more, got {len(types)} among "
                f"{len(sources)} images; give a cohort with cell_annotations.csv or a table with "
                "cell_type, class folders, or use simclr, swav or dino"
            )
            raise LabelsMissingError(message)
        sources = only_labelled(sources)
    _check_number(len(sources), config)
    return sources


def check_pool(pool: ImagePool, config: PretrainConfig) -> None:
    """Check what is left after reading.

    Raises:
        TooFewImagesError: The readable images do not fill one batch.
        PretrainError: The processes cannot share a batch evenly.
    """
    _check_number(len(pool), config)
    if config.batch_size % num_ranks():
        message = (
            f"expected a batch size that {num_ranks()} processes can share evenly, "
            f"got {config.batch_size}; change --batch-size"
        )
        raise PretrainError(message)
    if isinstance(config, SwavConfig) and config.uses_queue and config.queue_length % num_ranks():
        message = (
            f"expected a queue that {num_ranks()} processes can share evenly, "
            f"got {config.queue_length}; change --queue-length"
        )
        raise PretrainError(message)


@torch.no_grad()
def check_crops(backbone: nn.Module, config: PretrainConfig) -> None:
    """Check that an encoder takes small crops, too.

    Args:
        backbone: On the CPU.
        config: Settings of the method.

    Raises:
        PretrainError: It takes images of one size only, as many transformers do.
    """
    if not isinstance(config, SwavConfig | DinoConfig) or not config.local_crops:
        return
    size_px = config.local_size_px
    backbone.eval()
    try:
        backbone.forward(torch.zeros(1, 3, size_px, size_px))
    except (AssertionError, RuntimeError) as error:
        message = (
            f"{config.architecture} at {config.image_size_px} px does not take local crops of "
            f"{size_px} px ({str(error).rstrip('.')}); set --local-size to {config.image_size_px}, "
            "--local-crops to 0, or take a ResNet"
        )
        raise PretrainError(message) from error
    finally:
        backbone.train()


def find_idle(config: PretrainConfig, length: RunLength) -> list[str]:
    """Say which settings a run is too short for."""
    found = []
    if config.warmup > length.epochs:
        found.append(
            f"the warm-up of {config.warmup:g} epochs is longer than the run of {length.epochs}: "
            "the learning rate rises to the very end; lower --warmup"
        )
    if isinstance(config, SwavConfig) and config.uses_queue:
        filled = math.ceil(config.queue_length / config.batch_size)
        due = length_in_steps(
            config.queue_start, epochs=length.epochs, steps_per_epoch=length.steps_per_epoch
        )
        if (first := max(filled, due)) >= length.num_steps:
            found.append(
                f"the queue never takes part: it could after {first:,} steps, the run has "
                f"{length.num_steps:,}; lower --queue-length or --queue-start, or set it to 0"
            )
    return found


def _check_number(num_images: int, config: PretrainConfig) -> None:
    if num_images < config.batch_size:
        message = (
            f"{num_images} images do not fill one batch of {config.batch_size}; "
            f"lower --batch-size to {max(num_images // 2, 2)} or less, or give more images"
        )
        raise TooFewImagesError(message)


def check_patients(sources: tuple[ImageSource, ...], wanted: Collection[str]) -> None:
    """Check that folds are of this cohort.

    Args:
        sources: Images of the wanted patients.
        wanted: Training patients of a fold.

    Raises:
        FoldsError: A wanted patient is not in the cohort.
    """
    missing = sorted(set(wanted) - {source.patient_id for source in sources})
    if missing:
        message = f"training patients that the cohort does not hold: {name_some(missing)}"
        raise FoldsError(f"{message}; make folds of this cohort with aml-mil folds")
