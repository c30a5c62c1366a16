"""`aml-mil fit-mil`: the heads of all folds and seeds, from the store."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.mil.config import FitConfig
from cli.flags import config_from, config_options, is_given
from cli.output import json_option, note, print_json, print_table
from cli.progress import with_bar
from cli.random_store import NO_RANDOM_STORE, random_store_option
from stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_mil.mil import EpochRecord, FitSummary


@click.command("fit-mil")
@click.argument("store", metavar="STORE")
@click.option(
    "--out",
    required=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="The run folder; a finished run of the same settings is left as it is.",
)
@click.option(
    "--folds",
    "folds_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Table patient_id,fold, in place of --num-folds and --fold-seed.",
)
@click.option(
    "--allow-transductive", is_flag=True, help="Accept an encoder that has seen test patients."
)
@config_options(FitConfig)
@random_store_option
@json_option
def fit_mil(
    *,
    store: str,
    out: Path,
    folds_path: Path | None,
    allow_transductive: bool,
    config_path: Path | None,
    random_store: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Train class-wise attention heads for all folds and seeds from STORE.

    STORE may contain {fold}: then each fold reads a store of its own, 'simclr-fold{fold}.zarr'.
    The table shows mean ± s.d. over folds and seeds of the test patients' figures, beside floors
    on the same folds that need no head: no model is worth more than what it adds to them.
    """
    from aml_mil import mil
    from aml_mil.cohort import read_folds
    from aml_mil.evaluation.random_floor import add_random_floor, check_random_store

    config = config_from(FitConfig, values, config_path=config_path, section="fit")
    if folds_path:
        _refuse_idle_options()
    folds = read_folds(folds_path) if folds_path else None
    if random_store:
        check_random_store(random_store, bag_ids=_bag_ids(store))
    summary = _train(
        mil.fit(
            store,
            out_dir=out,
            config=config,
            folds=folds,
            allow_transductive=allow_transductive,
        ),
        # Folds of a table are counted from it; a wrong guess would only bend the bar.
        total=config.epochs * config.seeds * (len(set((folds or {}).values())) or config.num_folds),
    )
    if random_store:
        summary = replace(summary, metrics=add_random_floor(out, random_store))
    if not summary.is_new:
        note(f"{out} holds this very run already, finished; nothing was trained")
    if as_json:
        print_json({"run": str(out), "is_new": summary.is_new, **summary.metrics})
        return
    _print_tables(summary)
    note(
        f"{summary.num_replicates} heads of {summary.num_patients} patients, "
        f"{summary.num_cells} cells; training took {summary.train_s:.1f} s; "
        f"had the encoder seen test patients: {summary.leakage}"
    )
    note(f"run folder: {out}")


def _bag_ids(store: str) -> tuple[str, ...]:
    """Name the patients of the store, or of the first of one per fold."""
    from aml_mil.mil.inputs import FOLD_FIELD

    with open_store(store.replace(FOLD_FIELD, "0")) as opened:
        return opened.bag_ids


def _refuse_idle_options() -> None:
    for name in ("num_folds", "fold_seed"):
        if is_given(name):
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} has no effect beside --folds; leave one of them out")


def _train(records: "Iterator[EpochRecord | FitSummary]", *, total: int) -> "FitSummary":
    """Draw the bar and return the last record, which is the summary."""
    last: EpochRecord | FitSummary | None = None
    for last in with_bar(records, total=total, unit="epoch", description="fit-mil"):  # noqa: B007
        pass
    assert last is not None
    assert not hasattr(last, "epoch")
    return last


def _print_tables(summary: "FitSummary") -> None:
    from aml_mil.evaluation.metrics import METRICS
    from aml_mil.evaluation.table import format_figure, metrics_table

    rows = [
        [row.group, row.name, *(format_figure(*row.figures[name]) for name in METRICS)]
        for row in metrics_table(summary.metrics, name="attention MIL")
    ]
    print_table(rows, headers=["class", "model", *METRICS])
    for floor, reason in summary.metrics.get("floors_left_out", {}).items():
        note(f"floor {floor} left out: {reason}")
    if "random_encoder" not in summary.metrics["floors"]:
        note(NO_RANDOM_STORE)
