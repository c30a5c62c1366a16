"""`aml-mil store …`: look into feature stores, check them, bring features in and take them out."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click

from cli.failure import CommandError
from cli.interchange import export_command, import_command
from cli.output import json_option, note, print_json, print_result
from cli.progress import with_bar
from cli.store_path import NewStorePath, StorePath
from stores import (
    CopyRecord,
    FeatureStore,
    StoreDamagedError,
    copy_store,
    diff_manifests,
    diff_stores,
    merge_stores,
    open_store,
    repair_store,
    store_info,
    verify_store,
)

store_argument = click.argument("path", metavar="STORE", type=StorePath())
out_argument = click.argument("out", metavar="OUT", type=NewStorePath())
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Bags checked at once; else one per processor."
)


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
    print_result(facts, as_json=as_json)


@store.command()
@store_argument
@threads_option
@json_option
def verify(*, path: Path, threads: int | None, as_json: bool) -> None:
    """Read every bag of STORE and compare it with its commit record.

    Exit code 1 when a bag is damaged; each is named.
    """
    with open_store(path) as opened:
        total = len(opened)
        checks = verify_store(opened, num_threads=threads)
        records = list(with_bar(checks, total=total, unit="bag", description="verify"))
    damaged = {record.bag_id: record.error for record in records if record.error}
    if as_json:
        print_json({"num_bags": total, "damaged": damaged})
    for bag_id, error in damaged.items():
        note(f"damaged: {bag_id or 'what lies around the bags'}: {error}")
    if damaged:
        num_bags = sum(bool(bag_id) for bag_id in damaged)
        frame = " and what lies around them" if "" in damaged else ""
        raise CommandError(
            f"{num_bags} of {total} bags{frame} of {path} are damaged: "
            f"`aml-mil store repair {path}` drops what is damaged, embed then completes the store; "
            "an imported or merged one is to be made anew"
        )
    if not as_json:
        click.echo(f"{total} bags of {path} are whole")


@store.command()
@store_argument
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--all-temporaries",
    is_flag=True,
    help="Remove those of other hosts and living processes too; only while nobody writes.",
)
@threads_option
@json_option
def repair(
    *, path: Path, dry_run: bool, all_temporaries: bool, threads: int | None, as_json: bool
) -> None:
    """Drop the damaged bags of STORE and what dead writers left behind.

    Afterwards `aml-mil embed` with the same arguments embeds the dropped bags again.
    """
    with open_store(path) as opened:
        records = repair_store(
            opened, all_temporaries=all_temporaries, dry_run=dry_run, num_threads=threads
        )
        done = list(with_bar(records, total=_num_bags(opened), unit="bag", description="repair"))
    changes = [record for record in done if record.action != "intact"]
    intact, dropped = (
        sum(record.what == "bag" and record.action == action for record in done)
        for action in ("intact", "dropped")
    )
    for record in changes:
        note(f"{record.action}: {record.what} {record.name}: {record.reason}")
    if as_json:
        fields = [{name: getattr(r, name) for name in r.__slots__} for r in changes]
        print_json({"intact": intact, "dropped": dropped, "dry_run": dry_run, "changes": fields})
    else:
        removed = sum(record.action == "removed" for record in done)
        would = "would be " if dry_run else ""
        click.echo(
            f"{path}: {intact} bags intact, {dropped} {would}dropped, "
            f"{removed} temporaries {would}removed"
        )
        if dropped and not dry_run:
            note(
                "run the same embed again to bring the dropped bags back; an imported or merged "
                "store is to be made anew, under another name"
            )


@store.command()
@click.argument("first", metavar="A", type=StorePath())
@click.argument("second", metavar="B", type=StorePath())
@json_option
def diff(*, first: Path, second: Path, as_json: bool) -> None:
    """Compare the stores A and B, whatever their formats; exit code 1 when they differ.

    The commit records are compared; whether the bytes are still those is for `store verify`.
    """
    with open_store(first) as a, open_store(second) as b:
        total = len({*a.bag_ids, *b.bag_ids})
        manifests = diff_manifests(a.manifest, b.manifest)
        found = with_bar(diff_stores(a, b), total=total, unit="bag", description="diff")
        bags = [bag for bag in found if not bag.is_equal]
    if as_json:
        print_json(
            {
                "num_bags": total,
                "manifest": {name: list(values) for name, values in manifests.items()},
                "only_in_first": [bag.bag_id for bag in bags if bag.where == "first"],
                "only_in_second": [bag.bag_id for bag in bags if bag.where == "second"],
                "different": {b.bag_id: list(b.differences) for b in bags if b.where == "both"},
            }
        )
    else:
        for name, (old, new) in manifests.items():
            click.echo(f"manifest: {name}: {old!r}, {new!r}")
        for bag in bags:
            only = {"first": f"only in {first}", "second": f"only in {second}", "both": ""}
            for text in (*bag.differences, *filter(None, [only[bag.where]])):
                click.echo(f"{bag.bag_id}: {text}")
    if bags or manifests:
        raise CommandError(
            f"{first} and {second} differ: {len(manifests)} fields of the manifest, "
            f"{len(bags)} of {total} bags"
        )
    if not as_json:
        click.echo(f"{first} and {second} are equal: {total} bags")


@store.command()
@click.argument("source", metavar="STORE", type=StorePath())
@out_argument
@json_option
def copy(*, source: Path, out: Path, as_json: bool) -> None:
    """Copy STORE to OUT, in OUT's format, and verify every bag on both sides.

    OUT appears when it is whole; interrupted, the same command continues.
    """
    with open_store(source) as opened:
        _report(copy_store(opened, out), len(opened), out, "copy", as_json=as_json)


@store.command()
@click.argument("sources", metavar="STORE...", nargs=-1, type=StorePath())
@out_argument
@json_option
def merge(*, sources: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Merge STOREs of disjoint cohorts, made by one encoder in one way, into OUT.

    OUT appears when it is whole; interrupted, the same command continues.
    """
    if len(sources) < 2:
        raise click.UsageError("give at least two stores, and the new one last")
    if len({path.resolve() for path in sources}) < len(sources):
        raise click.UsageError("a store is given twice")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_store(path)) for path in sources]
        total = sum(len(each) for each in opened)
        _report(merge_stores(opened, out), total, out, "merge", as_json=as_json)


def _report(
    records: Iterable[CopyRecord], total: int, out: Path, description: str, *, as_json: bool
) -> None:
    done = list(with_bar(records, total=total, unit="bag", description=description))
    num_there = sum(record.was_there for record in done)
    if as_json:
        num_instances = sum(record.num_instances for record in done)
        print_json(
            {"out": str(out), "num_bags": total, "num_instances": num_instances}
            | {"num_there": num_there}
        )
    else:
        before = f", {num_there} of them by an interrupted run" if num_there else ""
        click.echo(f"{len(done)} bags are in {out} and verified{before}")


def _num_bags(opened: FeatureStore) -> int:
    try:
        return len(opened)
    except StoreDamagedError:
        return 0  # the folder of bags is missing: a repair makes it
