"""What commands print: one table for people, or one JSON document for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from tabulate import tabulate

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document to stdout; messages go to stderr.",
)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document to stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Sequence[Any]], *, headers: Sequence[str]) -> None:
    """Print rows as a table to stdout; numbers are taken as they are written."""
    click.echo(tabulate(rows, headers=headers, disable_numparse=True))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    rows = [(name.replace("_", " "), value) for name, value in facts.items()]
    click.echo(tabulate(rows, tablefmt="plain"))


def print_result(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print named values as a JSON document, or for people, one a line."""
    if as_json:
        print_json(facts)
    else:
        print_facts({name: say(value) for name, value in facts.items()})


def say(value: Any) -> str:
    """Write a value for people."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        value = [f"{name} {say(each)}" for name, each in value.items()]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def note(message: str) -> None:
    """Say something to the user on stderr, so that stdout holds results only."""
    click.echo(message, err=True)
