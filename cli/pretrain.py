"""`aml-mil pretrain …`: encoders learn from the cells of a cohort."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from aml_mil.ssl import DinoConfig, PretrainConfig, SimclrConfig, SupervisedConfig, SwavConfig
from cli.flags import NumberList, config_from, config_options, legend_of
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_result
from cli.pretrain_run import read_sources, train
from cli.training_fold import check_folds, check_out, read_roles, training_fold_options

if TYPE_CHECKING:
    from aml_mil.ssl.pool import ImageSource

PREVIEW_CELLS = 6
HELP = {
    "simclr": "Contrast two views of each cell with all other cells.",
    "swav": "Predict a view's prototype from the cell's other views.",
    "dino": "Predict what a slow average of the encoder says about another view.",
    "supervised": "Learn annotated cell types.",
}


@click.group()
def pretrain() -> None:
    """Train an encoder on the cells of a cohort, for `embed --encoder`.

    Beside the encoder lie the state to resume from, the history as a table, and its picture. With
    torchrun, several processes train together: torchrun --nproc-per-node 4 -m cli pretrain ….
    """


class ChannelValues(NumberList):
    """One number for each of R, G, B, from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(float)
        self.name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn `0.5,0.5,0.5` into a tuple."""
        numbers = super().convert(value, param, ctx)
        if len(numbers) != 3 or not all(0 <= number <= 1 for number in numbers):
            self.fail(f"expected three numbers from 0 to 1, got {value!r}", param, ctx)
        return numbers


def _comma_separated(values: Sequence[float]) -> str:
    return ",".join(map(str, values))


def _add_method(name: str, config_class: type[PretrainConfig]) -> None:
    @pretrain.command(
        name,
        help=f"{HELP[name]} COHORT is a cohort, a table, or class folders.",
        epilog=legend_of(config_class),
    )
    @click.argument("cohort", type=LocalPath())
    @click.option(
        "--out",
        metavar="ENC.safetensors",
        type=LocalPath(dir_okay=False),
        help="Where the encoder goes.",
    )
    @training_fold_options
    @click.option("--resume", is_flag=True, help="Go on from where the run of --out was stopped.")
    @click.option(
        "--preview",
        metavar="FILE.png",
        type=LocalPath(dir_okay=False),
        help="Draw the views of a few cells, and train nothing.",
    )
    @config_options(config_class)
    @json_option
    def command(
        *,
        cohort: Path,
        out: Path | None,
        folds_path: Path | None,
        fold: int | None,
        resume: bool,
        preview: Path | None,
        config_path: Path | None,
        as_json: bool,
        **values: Any,
    ) -> None:
        _check_usage(out=out, preview=preview, folds_path=folds_path, fold=fold, resume=resume)
        config = config_from(config_class, values, config_path=config_path)
        sources = _find_sources(cohort, config, folds_path=folds_path, fold=fold)
        if preview is not None:
            _draw_preview(preview, sources, config, as_json=as_json)
            return
        assert out is not None
        named = {"path": str(cohort), "folds": str(folds_path or ""), "fold": fold}
        train(sources, config, out, cohort=named, is_resumed=resume, as_json=as_json)


for _name, _config_class in (
    ("simclr", SimclrConfig),
    ("swav", SwavConfig),
    ("dino", DinoConfig),
    ("supervised", SupervisedConfig),
):
    _add_method(_name, _config_class)


@pretrain.command()
@click.argument("weights", type=LocalPath(exists=True, dir_okay=False))
@click.option(
    "--architecture", required=True, help="The ResNet it holds, as timm names it: resnet18."
)
@click.option(
    "--out",
    required=True,
    metavar="ENC.safetensors",
    type=LocalPath(dir_okay=False),
    help="Where the encoder goes.",
)
@click.option(
    "--image-size",
    "image_size_px",
    metavar="PX",
    type=click.IntRange(min=1),
    default=144,
    show_default=True,
    help="Side of the images it was trained on.",
)
@click.option(
    "--mean",
    type=ChannelValues(),
    default=IMAGENET_MEAN,
    show_default=_comma_separated(IMAGENET_MEAN),
    help="Of the channels that it was trained with, on the scale 0 to 1.",
)
@click.option(
    "--std",
    type=ChannelValues(),
    default=IMAGENET_STD,
    show_default=_comma_separated(IMAGENET_STD),
    help="S.d. of the channels, likewise; embed divides by it.",
)
@json_option
def convert(
    *,
    weights: Path,
    architecture: str,
    out: Path,
    image_size_px: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    as_json: bool,
) -> None:
    """Turn WEIGHTS that others trained into an encoder.

    Files of VISSL, torchvision, timm, the official DINO and SwAV, lightly and solo-learn. Their
    heads are dropped and named; anything else that is unknown or missing is an error.
    """
    from aml_mil.encoders.converters import convert_checkpoint

    check_out(out)
    if min(std) == 0:
        raise click.UsageError("--std: expected numbers above 0, got 0: embed divides by them")
    conversion = convert_checkpoint(
        weights, out, architecture=architecture, image_size_px=image_size_px, mean=mean, std=std
    )
    facts: dict[str, Any] = {
        "encoder": str(out),
        "source": conversion.source,
        "mean": _comma_separated(mean),
        "std": _comma_separated(std),
        "tensors": len(conversion.tensors),
        "dropped": list(conversion.dropped),
    }
    print_result(facts, as_json=as_json)


def _check_usage(
    *,
    out: Path | None,
    preview: Path | None,
    folds_path: Path | None,
    fold: int | None,
    resume: bool,
) -> None:
    check_folds(folds_path, fold)
    if (out is None) == (preview is None):
        raise click.UsageError("expected either --out ENC.safetensors or --preview FILE.png")
    if resume and preview is not None:
        raise click.UsageError("--resume has no effect with --preview")
    if out is not None:
        check_out(out)
    if preview is not None and preview.suffix != ".png":
        raise click.UsageError(f"--preview: expected a name that ends in .png, got {preview.name}")


def _find_sources(
    cohort: Path, config: PretrainConfig, *, folds_path: Path | None, fold: int | None
) -> "tuple[ImageSource, ...]":
    from aml_mil.ssl.checks import check_patients, choose_sources
    from aml_mil.ssl.pool import find_sources

    if folds_path is None or fold is None:
        return choose_sources(find_sources(cohort), config)
    roles = read_roles(folds_path, fold)
    sources = find_sources(cohort, patients=roles.train)
    check_patients(sources, roles.train)
    return choose_sources(sources, config)


def _draw_preview(
    path: Path, sources: "tuple[ImageSource, ...]", config: PretrainConfig, *, as_json: bool
) -> None:
    from aml_mil.ssl.method import RunLength
    from aml_mil.ssl.methods import build_method
    from aml_mil.ssl.pool import count_types
    from aml_mil.ssl.preview import preview_views

    step = max(len(sources) // PREVIEW_CELLS, 1)
    pool = read_sources(sources[::step][:PREVIEW_CELLS], config)
    method = build_method(
        config, RunLength(epochs=1, steps_per_epoch=1), num_types=len(count_types(sources))
    )
    preview_views(path, pool, method.views(), cells=range(len(pool)))
    if as_json:
        print_json({"preview": str(path), "cells": len(pool)})
    note(f"{len(pool)} cells and their views drawn in {path}")
