"""`aml-mil doctor`: what this machine would do, how fast, and what is missing."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.embedding.config import EmbedConfig
from cli.flags import config_from, config_options
from cli.local_path import LocalPath
from cli.output import json_option, note, print_facts, print_json

if TYPE_CHECKING:
    from aml_mil.embedding.doctor import Diagnosis

NOT_MEASURED = (
    *("stain", "stain_reference", "cell_types"),
    *("strict", "refresh", "drop_vanished", "check_precision"),
)


@click.command()
@click.argument("cohort", type=LocalPath(), required=False)
@click.option("--encoder", default="resnet18", show_default=True, help="What to measure.")
@click.option(
    "--weights",
    default="random:0",
    show_default=True,
    metavar="FILE|timm|random:SEED",
    help="Of the encoder; they do not change how fast it is.",
)
@click.option("--image-size", type=int, metavar="PX", help="Side of the images; else 144.")
@click.option(
    "--out",
    type=LocalPath(exists=True, file_okay=False),
    default=Path(),
    help="Folder that the store is to be in: its free space is told.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="How long each of the two rates is measured.",
)
@config_options(EmbedConfig, leave_out=NOT_MEASURED)
@json_option
def doctor(
    *,
    cohort: Path | None,
    encoder: str,
    weights: str,
    image_size: int | None,
    out: Path,
    seconds: float,
    config_path: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Say which device, engine and precision `embed` would take here, and why.

    Measures how fast cells are decoded and encoded; with COHORT its own cells, and what its store
    would take.
    """
    from aml_mil.cohort import read_cohort
    from aml_mil.embedding.doctor import diagnose
    from aml_mil.encoders import CHECKPOINT_SUFFIXES, load_encoder

    config = config_from(EmbedConfig, values, config_path=config_path)
    given = None if encoder.endswith(CHECKPOINT_SUFFIXES) else weights
    loaded = load_encoder(encoder, weights=given, image_size_px=image_size)
    read = None if cohort is None else read_cohort(cohort)
    found = diagnose(loaded, config, cohort=read, out=out, seconds=seconds)
    for line in read.notes if read else ():
        note(line)
    if as_json:
        print_json(asdict(found))
        return
    print_facts(_facts(found))
    if found.cohort and found.cohort.store_bytes > found.cohort.free_bytes:
        note(f"the store does not fit on the disk of {out.resolve()}: free some space first")


def _facts(found: "Diagnosis") -> dict[str, str]:
    facts = {
        "hardware": f"{found.hardware}, {found.cores} cores for this process",
        "device": f"{found.device.value}: {found.device.reason}",
        "engine": f"{found.engine.value}: {found.engine.reason}",
        "precision": f"{found.precision.value}: {found.precision.reason}",
        "decoding": f"{found.decoded_per_s:.0f} cells/s",
        "encoding": f"{found.encoded_per_s:.0f} cells/s ({found.encoder}, {found.num_views} views)",
        "slower of the two": (
            "decoding" if found.decoded_per_s < found.encoded_per_s else "encoding"
        ),
    }
    if found.cohort:
        needs = found.cohort
        facts |= {
            "cohort": f"{needs.num_patients} patients, {needs.num_cells} cells",
            "its store": (
                f"{needs.store_bytes / 1e6:.1f} MB in {needs.num_files} files (.zarr), "
                f"{needs.free_bytes / 1e9:.1f} GB are free"
            ),
            "time to embed": f"{needs.seconds:.0f} s at these rates",
        }
    for part in found.parts:
        state = "there" if part.is_there else "missing"
        facts[part.name] = f"{state} ({part.purpose})"
    return facts
