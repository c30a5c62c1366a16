"""`aml-mil fit-mil`: the heads of all folds and seeds, from the store."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.mil.config import FitConfig
from cli.flags import config_from, config_options, legend_of, refuse_if_given
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table
from cli.progress import results_of
from cli.random_store import NO_RANDOM_STORE, random_store_option
from cli.stopping import until_stopped
from stores import open_store

if TYPE_CHECKING:
    from aml_mil.mil import FitSummary
    from aml_mil.mil.plan import Folds


@click.command("fit-mil", epilog=legend_of(FitConfig))
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    metavar="RUN",
    type=LocalPath(),
    help="The run folder, or, with several stores, where one folder per store goes; a finished "
    "run of the same settings is left as it is, an interrupted one goes on.",
)
@click.option(
    "--folds",
    "folds_path",
    type=LocalPath(),
    help="Table patient_id,fold, in place of --num-folds and --fold-seed; or CLAM's splits: their "
    "folder, or a path like 'splits_{i}.csv'.",
)
@click.option(
    "--allow-transductive", is_flag=True, help="Accept an encoder that has seen test patients."
)
@config_options(FitConfig, kept_as="config.json")
@random_store_option
@json_option
def fit_mil(
    *,
    stores: tuple[str, ...],
    out: Path,
    folds_path: Path | None,
    allow_transductive: bool,
    config_path: Path | None,
    random_store: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Train attention heads for all folds and seeds from each STORE, in one program.

    A STORE may contain {fold}: then each fold reads a store of its own, 'simclr-fold{fold}.zarr'.
    Flips are drawn cell by cell; of the augmentations that a patient's cells share (--views
    shared:K or colour:K of embed) a training bag takes one. Several STOREs of the same patients,
    cells and feature shape train together; each gets the run folder
    RUN/<store name without suffix and {fold}>. The table shows mean ± s.d. over folds
    and seeds of the test patients' figures, beside floors on the same folds that need no head: no
    model is worth more than what it adds to them.
    """
    from aml_mil import mil
    from aml_mil.evaluation.random_floor import add_random_floor, check_random_store

    config = config_from(FitConfig, values, config_path=config_path, section="fit")
    _refuse_idle_options(config, folds_path)
    folds = _read_folds(folds_path) if folds_path else None
    if random_store:
        check_random_store(random_store, bag_ids=_bag_ids(stores[0]))
    settings: dict[str, Any] = {
        "out_dir": out,
        "config": config,
        "folds": folds,
        "allow_transductive": allow_transductive,
    }
    several = len(stores) > 1
    records = mil.fit_encoders(stores, **settings) if several else mil.fit(stores[0], **settings)
    summaries = results_of(
        until_stopped(records),
        mil.FitSummary,
        # Folds of a table are counted from it; a wrong guess would only bend the bar.
        total=len(stores) * config.epochs * config.seeds * _count(folds, config.num_folds),
        unit="epoch",
        description="fit-mil",
    )
    if random_store:
        summaries = [
            replace(s, metrics=add_random_floor(s.run_dir, random_store)) for s in summaries
        ]
    if as_json:
        runs = [{"run": str(s.run_dir), "is_new": s.is_new, **s.metrics} for s in summaries]
        print_json({"runs": runs} if several else runs[0])
    for summary in summaries:
        name = summary.run_dir.name if several else f"{config.pool} MIL"
        _show(summary, name=None if as_json else name, is_one_of_several=several)


def _refuse_idle_options(config: FitConfig, folds_path: Path | None) -> None:
    for name in ("num_folds", "fold_seed") if folds_path else ():
        refuse_if_given(name, "beside --folds")
    for name in config.idle_settings:
        refuse_if_given(name, f"with --pool {config.pool}")


def _read_folds(path: Path) -> "Folds":
    from aml_mil.cohort import read_folds
    from aml_mil.mil.splits import is_splits, read_splits

    return read_splits(path) if is_splits(path) else read_folds(path)


def _count(folds: "Folds | None", num_folds: int) -> int:
    if folds is None:
        return num_folds
    return len(set(folds.values())) if isinstance(folds, Mapping) else len(folds)


def _show(summary: "FitSummary", *, name: str | None, is_one_of_several: bool) -> None:
    """Print one run's table under a name, if any, and say what it was."""
    if not summary.is_new:
        note(f"{summary.run_dir} holds this very run already, finished; nothing was trained")
    if name is not None:
        _print_tables(summary, name=name)
    took = f"training took {summary.train_s:.1f} s"
    note(
        f"{summary.num_replicates} heads of {summary.num_patients} patients, "
        f"{summary.num_cells} cells; {took}{' for all stores' * is_one_of_several}; "
        f"had the encoder seen test patients: {summary.leakage}"
    )
    if (gap := summary.metrics.get("probability_gap_to_fp32")) is not None:
        note(f"largest difference of a probability to the same heads in fp32: {gap:.2g}")
    note(f"run folder: {summary.run_dir}")


def _bag_ids(store: str) -> tuple[str, ...]:
    """Name the patients of the store, or of the first of one per fold."""
    from aml_mil.mil.inputs import FOLD_FIELD

    with open_store(store.replace(FOLD_FIELD, "0")) as opened:
        return opened.bag_ids


def _print_tables(summary: "FitSummary", *, name: str) -> None:
    from aml_mil.evaluation.metrics import METRICS
    from aml_mil.evaluation.table import format_figure, metrics_table

    rows = [
        [row.group, row.name, *(format_figure(*row.figures[name]) for name in METRICS)]
        for row in metrics_table(summary.metrics, name=name)
    ]
    print_table(rows, headers=["class", "model", *METRICS])
    for floor, reason in summary.metrics.get("floors_left_out", {}).items():
        note(f"floor {floor} left out: {reason}")
    if "random_encoder" not in summary.metrics["floors"]:
        note(NO_RANDOM_STORE)
