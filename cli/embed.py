"""`aml-mil embed`: images become features, once per encoder."""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.embedding.config import EmbedConfig
from cli.cohort_options import cohort_options, read_chosen_cohort
from cli.embed_names import name_stores, pair_weights
from cli.failure import CommandError
from cli.flags import config_from, config_options
from cli.local_path import LocalPath
from cli.output import json_option, note, print_facts, print_json
from cli.progress import with_bar
from cli.store_path import StorePath

if TYPE_CHECKING:
    from aml_mil.embedding import EmbedRun, EmbedSummary
    from aml_mil.encoders import FeatureKind

DESCRIPTIONS = {
    "embed": "embed",
    "check": "compare",
    "refresh": "refresh",
    "precision": "compare with fp32",
}


@click.command()
@click.argument("cohort", type=LocalPath())
@click.option(
    "--encoder",
    "encoder_names",
    required=True,
    multiple=True,
    metavar="NAME|FILE",
    help="A timm name (resnet18), torchvision:NAME, or one of our checkpoints (.safetensors). "
    "Repeated, each fills a store of its own, and the cells are decoded once.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="FILE|timm|random:SEED",
    help="Never random unless asked; one for each --encoder that is no checkpoint.",
)
@click.option(
    "--image-size", type=int, metavar="PX", help="Side of the images; the checkpoint's, else 144."
)
@click.option(
    "--features",
    type=click.Choice(["vector", "map"]),
    default="vector",
    show_default=True,
    help="One vector a cell, or the map it is pooled from (512x5x5 for resnet18 at 144 px).",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Take the features there: layer3 of resnet18 (256 wide); the last map if not given.",
)
@click.option(
    "--out",
    required=True,
    metavar="STORE",
    type=StorePath(),
    help="NAME.zarr or NAME.h5store; a store begun earlier is continued. {encoder} stands for "
    "the name of the weights' file, or of the encoder.",
)
@cohort_options
@config_options(EmbedConfig)
@json_option
def embed(
    *,
    cohort: Path,
    encoder_names: tuple[str, ...],
    weights: tuple[str, ...],
    image_size: int | None,
    features: "FeatureKind",
    layer: str | None,
    out: Path,
    classes: str | None,
    merge: tuple[str, ...],
    min_malignant_percent: float | None,
    config_path: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Turn the cell images of COHORT into features, once per encoder.

    COHORT is a folder with metadata.csv and data/<bag_label>/<patient_id>/, or a table with
    patient_id, image_path, label. Damaged files are set aside, named and counted. Killed, the same
    command continues. Patients whose files have changed or vanished since are listed, and the exit
    code is 1.

    Several processes share the patients: torchrun --nproc-per-node 4 -m cli embed ….
    """
    from aml_mil import embedding
    from aml_mil.embedding.shares import BACKEND, PATIENCE
    from aml_mil.encoders import CHECKPOINT_SUFFIXES, load_encoder
    from aml_mil.processes import is_launched_by_torchrun, joined_processes
    from aml_mil.ranks import rank

    config = config_from(EmbedConfig, values, config_path=config_path)
    pairs = pair_weights(encoder_names, weights, checkpoint_suffixes=CHECKPOINT_SUFFIXES)
    with joined_processes(config.device, backend=BACKEND, timeout=PATIENCE) as device:
        if is_launched_by_torchrun():
            config = replace(config, device=str(device))
        patients = read_chosen_cohort(
            cohort, classes=classes, merge=merge, min_malignant_percent=min_malignant_percent
        )
        encoders = [
            load_encoder(
                name, weights=own, image_size_px=image_size, features=features, layer=layer
            )
            for name, own in pairs
        ]
        run = embedding.embed_by_several(patients, name_stores(out, encoders), config)
        if rank() > 0:  # the first process speaks for all
            deque(run, maxlen=0)
            return
        for line in run.notes:
            note(line)
        try:
            _draw(run)
        except embedding.PatientsFailedError:
            _report(run.summaries, as_json=as_json)
            raise
    _report(run.summaries, as_json=as_json)
    if problems := [_what_to_do(s) for s in run.summaries if s.needs_attention]:
        raise CommandError("; ".join(problems))


def _draw(run: "EmbedRun") -> None:
    for (phase, store), records in itertools.groupby(
        run, key=lambda each: (each.phase, each.store)
    ):
        for _ in with_bar(
            records,
            total="cells_total",
            unit="cell",
            done="cells_done",
            description=f"{DESCRIPTIONS[phase]} {store}".strip(),
        ):
            pass


def _report(summaries: "Sequence[EmbedSummary]", *, as_json: bool) -> None:
    for summary in summaries:
        _note_files(summary)
    if as_json:
        documents = [_document(summary) for summary in summaries]
        print_json(documents[0] if len(documents) == 1 else {"stores": documents})
        return
    for summary in summaries:
        print_facts(_facts(summary))


def _note_files(summary: "EmbedSummary") -> None:
    for title, lines in (
        ("quarantined", summary.quarantined),
        ("changed", summary.changed),
        ("vanished", summary.vanished),
        ("refreshed", summary.refreshed),
        ("dropped", summary.dropped),
    ):
        for line in lines:
            note(f"{title}: {line}")
    for copies in summary.copies:
        names = ", ".join("/".join(member) for member in copies.members)
        where = ", of different patients" if copies.across_patients else ""
        note(f"byte-identical{where}: {names}")


def _document(summary: "EmbedSummary") -> dict[str, Any]:
    return _facts(summary) | {
        "quarantined_files": [str(item) for item in summary.quarantined],
        "copies": [["/".join(m) for m in copies.members] for copies in summary.copies],
        "changed": [str(item) for item in summary.changed],
        "vanished": list(summary.vanished),
        "refreshed": [str(item) for item in summary.refreshed],
        "dropped": list(summary.dropped),
        "failed": [str(item) for item in summary.failed],
    }


def _facts(summary: "EmbedSummary") -> dict[str, Any]:
    facts = {
        "store": str(summary.store_path),
        "patients": summary.patients_embedded + summary.patients_skipped + len(summary.refreshed),
        "patients_embedded": summary.patients_embedded,
        "cells": summary.cells_embedded + summary.cells_skipped,
        "cells_embedded": summary.cells_embedded,
        "quarantined": len(summary.quarantined),
        "byte_identical_groups": len(summary.copies),
        "cells_per_s": round(summary.images_per_s, 1),
        "seconds": round(summary.seconds, 1),
        "store_mb": round(summary.store_bytes / 1e6, 1),
        "processes": summary.num_processes,
        "engine": summary.engine,
        "compute_dtype": summary.compute_dtype,
    }
    if summary.stain_reference:
        facts["stain_reference"] = ",".join(f"{value:g}" for value in summary.stain_reference)
    if summary.precision:
        facts |= {
            "cells_compared_with_fp32": summary.precision.num_cells,
            "min_cosine": round(summary.precision.min_cosine, 7),
            "max_abs_error": round(summary.precision.max_abs_error, 7),
        }
    return facts


def _what_to_do(summary: "EmbedSummary") -> str:
    parts = []
    if summary.changed:
        parts.append(f"{len(summary.changed)} patients have changed (--refresh embeds them again)")
    if summary.vanished:
        parts.append(
            f"{len(summary.vanished)} have vanished from the cohort (--drop-vanished removes them)"
        )
    name = summary.store_path.name
    return f"{name} and the cohort differ, these bags were left as they are: {'; '.join(parts)}"
