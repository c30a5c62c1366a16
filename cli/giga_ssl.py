"""`aml-mil giga-ssl`: embeddings of patients, learnt without labels from a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.giga.config import GigaConfig
from cli.flags import config_from, config_options, legend_of
from cli.local_path import LocalPath
from cli.output import json_option, note, print_result
from cli.pretrain_run import follow
from cli.training_fold import check_folds, check_out, read_roles, training_fold_options

if TYPE_CHECKING:
    from aml_mil.giga.run import GigaRun


@click.command("giga-ssl", epilog=legend_of(GigaConfig))
@click.argument("store", metavar="STORE")
@click.option(
    "--out",
    required=True,
    metavar="GIGA.safetensors",
    type=LocalPath(dir_okay=False),
    help="Where the encoder of patients goes; state, history and picture lie beside it.",
)
@training_fold_options
@click.option(
    "--allow-transductive",
    is_flag=True,
    help="Accept features of an encoder that has seen test patients of --fold.",
)
@click.option("--resume", is_flag=True, help="Go on from where the run of --out was stopped.")
@config_options(GigaConfig)
@json_option
def giga_ssl(
    *,
    store: str,
    out: Path,
    folds_path: Path | None,
    fold: int | None,
    allow_transductive: bool,
    resume: bool,
    config_path: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Learn one vector for a patient from the cells in STORE, without labels.

    Two views of a patient, each a stored augmentation and a few cells, must find each other among
    all patients. Stores of `embed --views shared:K` teach most. {fold} in STORE stands for --fold.
    Several processes train together: torchrun --nproc-per-node 4 -m cli giga-ssl ….
    """
    from aml_mil.giga.bags import read_bags
    from aml_mil.giga.checks import check_cells_encoder, describe_views
    from aml_mil.giga.run import GigaRun
    from aml_mil.processes import joined_processes
    from aml_mil.ranks import rank

    check_folds(folds_path, fold)
    check_out(out)
    config = config_from(GigaConfig, values, config_path=config_path)
    roles = read_roles(folds_path, fold) if folds_path and fold is not None else None
    named = {"store": store, "folds": str(folds_path or ""), "fold": fold}
    with joined_processes(config.device) as device:
        path = store if fold is None else store.replace("{fold}", str(fold))
        bags = read_bags(path, device=device, patient_ids=roles.train if roles else None)
        if roles is not None and fold is not None:
            check_cells_encoder(
                bags.manifest, roles.test, fold=fold, allow_transductive=allow_transductive
            )
        if (warning := describe_views(bags.manifest.views)) and rank() == 0:
            note(f"warning: {warning}")
        run = GigaRun(bags, config, out, device=device, source=named, is_resumed=resume)
        follow(run, unit="patient", name="giga-ssl")
        if rank() == 0:
            _report(run, as_json=as_json)


def _report(run: "GigaRun", *, as_json: bool) -> None:
    last, shape = run.records[-1], run.trainer.contrast.encoder.shape
    seconds = sum(record.seconds or 0.0 for record in run.records)
    facts: dict[str, Any] = {
        "giga": str(run.paths.encoder),
        "encoder": shape.kind,
        "patients": len(run.bags.patient_ids),
        "cells": run.bags.num_cells,
        "views": list(run.bags.manifest.views),
        "epochs": last.epoch,
        "loss": last.loss,
        "loss_of_chance": last.chance_loss,
        "rankme": last.rankme,
        "rankme_before": run.records[0].rankme,
        "patients_per_s": run.steps_done * run.batch_size / seconds if seconds else None,
        "alarms": [alarm.kind for alarm in run.alarms],
        "history": str(run.paths.history),
    }
    if shape.grid_step is not None:
        facts["grid_step"] = shape.grid_step
    print_result(facts, as_json=as_json)
