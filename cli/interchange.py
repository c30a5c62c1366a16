"""`aml-mil store import` and `store export`: neighbours' features in, ours out."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cli.local_path import LocalPath
from cli.output import json_option, note, print_result
from cli.progress import with_bar
from cli.store_path import NewStorePath, StorePath
from stores import open_store, store_info
from stores.interchange import ImportOptions, InterchangeUsageError, import_source

LAYOUTS_IN = (
    *("clam", "trident", "stamp", "slideflow", "scemila", "gigassl"),
    *("bags", "table", "anndata"),
)
LAYOUTS_OUT = ("clam", "trident", "anndata", "bags", "table")
MAX_LINES_OF_A_KIND = 10


@click.command("import")
@click.argument("source", type=LocalPath(exists=True))
@click.option(
    "--from", "layout", required=True, type=click.Choice(LAYOUTS_IN), help="Whose layout."
)
@click.option(
    "--out",
    required=True,
    metavar="STORE",
    type=NewStorePath(),
    help="New NAME.zarr or NAME.h5store; it appears when it is whole.",
)
@click.option(
    "--encoder-name",
    metavar="NAME",
    help="Stands with shape and dtype for the hash of weights; else the name the source gives.",
)
@click.option(
    "--labels",
    type=LocalPath(exists=True, dir_okay=False),
    help="Table of labels (STAMP: clini table); else the one in SOURCE.",
)
@click.option(
    "--slides",
    type=LocalPath(exists=True, dir_okay=False),
    help="STAMP's slide table; else the one in SOURCE.",
)
@click.option("--id-column", metavar="NAME", help="Column of the bag ids, if it has another name.")
@click.option(
    "--label-column", metavar="NAME", help="Column of the labels, if it has another name."
)
@click.option("--prefix", help="SCEMILA: which of several feature files, e.g. fnl34_.")
@click.option("--view", help="Giga-SSL: one view, where views show different tiles.")
@click.option(
    "--dtype",
    type=click.Choice(("float16", "float32", "float64")),
    help="Table: what its numbers were before they became text; float64 keeps every digit.",
)
@click.option(
    "--allow-unknown-labels", is_flag=True, help="Leave out labels of bags that are not there."
)
@click.option("--strict", is_flag=True, help="Stop at the first finding instead of reporting it.")
@json_option
def import_command(
    *,
    source: Path,
    layout: str,
    out: Path,
    encoder_name: str | None,
    strict: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring features another tool made in SOURCE into a new store.

    Every bag that has no label, no instance, NaN or infinite rows, or another dtype is reported.
    Stopped by bad data nothing is left; killed, the same command continues.
    """
    from aml_mil.interchange import open_source

    try:
        opened = open_source(layout, source, ImportOptions(**options))
        records = import_source(opened, out, encoder_name=encoder_name, strict=strict)
        findings = [*opened.findings]
        for line in opened.notes:
            note(line)
        for bag in with_bar(records, total=len(opened.bags), unit="bag", description="import"):
            findings += bag.findings
    except InterchangeUsageError as error:
        raise click.UsageError(str(error)) from error
    _say((finding.bag_id, finding.problem) for finding in findings)
    with open_store(out) as store:
        facts = store_info(store)
    if store.manifest.encoder == "unknown":
        note("the source does not name its encoder: recorded as unknown; see --encoder-name")
    if as_json:
        listed = [{"bag_id": item.bag_id, "problem": item.problem} for item in findings]
        facts |= {"findings": listed, "notes": list(opened.notes)}
    print_result(facts, as_json=as_json)


@click.command("export")
@click.argument("path", metavar="STORE", type=StorePath())
@click.option("--to", "layout", required=True, type=click.Choice(LAYOUTS_OUT), help="Whose layout.")
@click.option(
    "--out",
    required=True,
    type=LocalPath(),
    help="New folder or file; it appears when it is whole.",
)
@json_option
def export_command(*, path: Path, layout: str, out: Path, as_json: bool) -> None:
    """Write STORE in the layout of another tool.

    What that layout cannot hold, and what had to be made up (coords of cells are zeros), is said.
    """
    from aml_mil.interchange import export_store

    notes: list[tuple[str, str]] = []
    num_instances = 0
    with open_store(path) as store:
        total = len(store)
        records = export_store(store, layout, out)
        try:
            for bag in with_bar(records, total=total, unit="bag", description="export"):
                notes += [(bag.bag_id, text) for text in bag.notes]
                num_instances += bag.num_instances
        except InterchangeUsageError as error:
            raise click.UsageError(str(error)) from error
    _say(notes)
    facts: dict[str, Any] = {
        "out": str(out),
        "layout": layout,
        "num_bags": total,
        "num_instances": num_instances,
    }
    if as_json:
        facts["notes"] = dict(Counter(text for _, text in notes))
    print_result(facts, as_json=as_json)


def _say(problems: Iterable[tuple[str, str]]) -> None:
    """Say what was found, a line a bag; many bags of one kind share a line."""
    bags_by_text: dict[str, list[str]] = {}
    for bag_id, text in problems:
        bags_by_text.setdefault(text, []).append(bag_id)
    for text, bag_ids in bags_by_text.items():
        if len(bag_ids) <= MAX_LINES_OF_A_KIND:
            for bag_id in bag_ids:
                note(f"{bag_id}: {text}")
        else:
            note(f"{len(bag_ids)} bags: {text} ({', '.join(bag_ids[:5])}, …)")
