"""`aml-mil store …`: look into feature stores, check them, bring features in and take them out."""

from pathlib import Path

import click

from cli.failure import CommandError
from cli.interchange import export_command, import_command
from cli.output import json_option, note, print_facts, print_json
from cli.progress import with_bar
from stores import open_store, store_info, verify_store

store_argument = click.argument("path", metavar="STORE", type=click.Path(path_type=Path))


@click.group()
def store() -> None:
    """Look into feature stores, check them, bring features in and take them out."""


store.add_command(import_command)
store.add_command(export_command)


@store.command()
@store_argument
@json_option
def info(*, path: Path, as_json: bool) -> None:
    """Say what STORE holds; reads the commit records, no features."""
    with open_store(path) as opened:
        facts = store_info(opened)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@store.command()
@store_argument
@json_option
def verify(*, path: Path, as_json: bool) -> None:
    """Read every bag of STORE and compare it with its commit record.

    Exit code 1 when a bag is damaged; each is named.
    """
    with open_store(path) as opened:
        total = len(opened)
        records = list(
            with_bar(verify_store(opened), total=total, unit="bag", description="verify")
        )
    damaged = {record.bag_id: record.error for record in records if record.error}
    if as_json:
        print_json({"num_bags": total, "damaged": damaged})
    for bag_id, error in damaged.items():
        note(f"damaged: {bag_id}: {error}")
    if damaged:
        raise CommandError(
            f"{len(damaged)} of {total} bags of {path} are damaged: "
            f"delete their folders under {path / 'bags'} and run embed again"
        )
    if not as_json:
        click.echo(f"{total} bags of {path} are whole")
