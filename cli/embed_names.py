"""Which encoders `aml-mil embed` runs, and which store each of them fills."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stores.location import locate

if TYPE_CHECKING:
    from aml_mil.encoders import Encoder

PLACE = "{encoder}"


def pair_weights(
    encoders: Sequence[str], weights: Sequence[str], *, checkpoint_suffixes: tuple[str, ...]
) -> list[tuple[str, str | None]]:
    """Give each encoder its weights, in the order in which both were written.

    Args:
        encoders: Names and checkpoints.
        weights: One for each encoder that is no checkpoint.
        checkpoint_suffixes: Of encoders that bring their own weights.

    Returns:
        Encoder and weights; None where there are none to give.

    Raises:
        click.UsageError: There are too few or too many weights.
    """
    if len(encoders) == 1 and len(weights) <= 1:
        return [(encoders[0], weights[0] if weights else None)]
    bare = [name for name in encoders if not name.endswith(checkpoint_suffixes)]
    if len(bare) != len(weights):
        raise click.UsageError(
            f"expected one --weights for each --encoder that is no checkpoint, "
            f"{len(bare)} ({', '.join(bare) or 'none'}), got {len(weights)}"
        )
    given = iter(weights)
    return [(name, next(given) if name in bare else None) for name in encoders]


def name_stores(out: Path, encoders: "Sequence[Encoder]") -> "dict[Path, Encoder]":
    """Name the store of each encoder.

    Args:
        out: What ``--out`` says; ``{encoder}`` stands for the name of the weights' file without
            its suffix, and without a file for that of the encoder.
        encoders: At least one.

    Returns:
        Encoder by path.

    Raises:
        click.UsageError: Two encoders would fill one store.
    """
    if len(encoders) > 1 and PLACE not in str(out):
        raise click.UsageError(
            f"--out: expected {PLACE} in the name where there are several encoders, such as "
            f"'{PLACE}.zarr', got {out}"
        )
    stores: dict[Path, Encoder] = {}
    for encoder in encoders:
        path = locate(str(out).replace(PLACE, short_name(encoder)))
        if path in stores:
            raise click.UsageError(
                f"--out: two encoders would fill {path}, of the weights {stores[path].weights} "
                f"and {encoder.weights}; rename one file, or embed by each on its own"
            )
        stores[path] = encoder
    return stores


def short_name(encoder: "Encoder") -> str:
    """Name an encoder by its weights: ``simclr-fold0``, ``resnet18``, ``resnet18-random-0``."""
    name = encoder.name.replace(":", "-").replace("/", "-")
    if encoder.weights == "timm":
        return name
    if encoder.weights.startswith("random:"):
        return f"{name}-{encoder.weights.replace(':', '-')}"
    return Path(encoder.weights.removesuffix(".tar")).stem
