"""`aml-mil report`: one offline HTML file of a run."""

from pathlib import Path

import click

from cli.local_path import LocalPath
from cli.output import json_option, note, print_json
from cli.progress import results_of


@click.command()
@click.argument("run_path", metavar="RUN", type=LocalPath())
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="The report, for example report.html; an older one is replaced.",
)
@click.option(
    "--cohort",
    "cohort_path",
    type=LocalPath(),
    help="The images that RUN's store was embedded from; without them there are no pictures.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Of the bootstrap, the UMAP and its cells."
)
@json_option
def report(
    *, run_path: Path, out: Path, cohort_path: Path | None, seed: int, as_json: bool
) -> None:
    """Write one self-contained HTML file about RUN, to be opened in any browser, offline.

    Results with intervals beside the floors, curves, attention by cell type, a map of the cells,
    and a page for every patient, wrong predictions first.
    """
    from aml_mil.cohort import read_cohort
    from aml_mil.evaluation.run import open_run
    from aml_mil.files import write_file
    from aml_mil.report.run_report import Report, build_report

    run = open_run(run_path)
    cohort = None if cohort_path is None else read_cohort(cohort_path)
    if not out.parent.is_dir():
        raise click.UsageError(f"--out: there is no folder {out.parent}")
    (found,) = results_of(
        build_report(run, cohort=cohort, seed=seed),
        Report,
        total=len(run.scores.patient_ids),
        unit="patient",
        description="report",
    )
    write_file(out, found.html.encode())
    for line in found.notes:
        note(line)
    num_bytes, num_patients = out.stat().st_size, len(run.scores.patient_ids)
    if as_json:
        facts = {"report": str(out), "num_bytes": num_bytes, "num_patients": num_patients}
        print_json({**facts, "notes": list(found.notes)})
    note(f"{out}: {num_bytes / 1e6:.1f} MB, {num_patients} patients")
