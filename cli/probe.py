"""`aml-mil probe`: what vectors of patients are worth when labels are few."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.giga.probe_config import ProbeConfig
from cli.flags import config_from, config_options, legend_of, refuse_if_given
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table
from cli.progress import with_bar

if TYPE_CHECKING:
    from aml_mil.giga.probe import ProbeResult


@click.command(epilog=legend_of(ProbeConfig))
@click.argument("store", metavar="STORE")
@click.option(
    "--giga",
    metavar="GIGA.safetensors",
    help="What giga-ssl trained; {fold} in it stands for the fold.",
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Where tables, metrics and the figure go; in a run folder its report shows them.",
)
@click.option(
    "--folds",
    "folds_path",
    type=LocalPath(dir_okay=False),
    help="Table patient_id,fold, in place of --num-folds and --fold-seed.",
)
@click.option(
    "--allow-transductive", is_flag=True, help="Accept encoders that have seen test patients."
)
@config_options(ProbeConfig, kept_as="probe.json")
@json_option
def probe(
    *,
    store: str,
    giga: str | None,
    out: Path,
    folds_path: Path | None,
    allow_transductive: bool,
    config_path: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Compare vectors of patients by what few labels make of them, on the same folds and labels.

    A logistic regression on Giga-SSL embeddings, on those of an untrained encoder, on mean
    features and on colour stands beside heads trained as fit-mil does. Shares that leave fewer
    than two patients of a class are skipped and named. STORE may contain {fold}.
    """
    from aml_mil.cohort import read_folds
    from aml_mil.giga.probe import Probe
    from aml_mil.giga.probe_files import refuse_existing, write_probe

    config = config_from(ProbeConfig, values, config_path=config_path, section="config")
    _refuse_idle_options(config, has_folds=folds_path is not None)
    refuse_existing(out)
    run = Probe(
        store,
        giga=giga,
        config=config,
        folds=None if folds_path is None else read_folds(folds_path),
        allow_transductive=allow_transductive,
    )
    for percent, reason in run.labels.skipped.items():
        note(f"skipped {percent}% of the labels: {reason}")
    for _ in with_bar(
        run, total=run.num_steps, unit="step", done="steps_done", description="probe"
    ):
        pass
    assert run.result is not None
    about: dict[str, Any] = {"store": store, "giga": giga, "config": config.to_json()}
    files = write_probe(out, run.result, about=about)
    if as_json:
        print_json({"out": str(out), **_document(run.result)})
    else:
        print_table(_rows(run.result), headers=["labels", "method", "ROC-AUC", "F1", "PR-AUC"])
    note(
        f"{run.result.num_patients} patients; had an encoder seen test patients: "
        f"{run.result.leakage}; written: {', '.join(file.name for file in files)} in {out}"
    )


def _refuse_idle_options(config: ProbeConfig, *, has_folds: bool) -> None:
    idle = [("num_folds", "--folds"), ("fold_seed", "--folds")] if has_folds else []
    if not config.mil:
        idle += [(f"mil_{name}", "--no-mil") for name in ("epochs", "lr", "standardize")]
    for name, beside in idle:
        refuse_if_given(name, f"beside {beside}")


def _document(result: "ProbeResult") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "num_patients": result.num_patients,
        "leakage": result.leakage,
        "skipped": {str(percent): reason for percent, reason in result.skipped.items()},
        "curves": [asdict(point) for point in result.points],
    }


def _rows(result: "ProbeResult") -> list[list[str]]:
    from aml_mil.report.numbers import format_interval

    points = {(p.fraction, p.method, p.metric): p for p in result.points}
    keys = sorted({(p.fraction, p.method) for p in result.points})
    return [
        [
            f"{fraction:.0%} ({points[fraction, method, 'f1'].num_labels:.0f})",
            method,
            *(
                format_interval(point.mean, point.low, point.high)
                for metric in ("roc_auc", "f1", "pr_auc")
                for point in [points[fraction, method, metric]]
            ),
        ]
        for fraction, method in keys
    ]
