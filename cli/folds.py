"""`aml-mil folds`: stratified folds of a cohort or store as a table."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click

from cli.failure import CommandError
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table
from cli.store_path import StorePath


@click.command()
@click.argument("source", type=StorePath(), metavar="COHORT|STORE")
@click.option("--num-folds", default=5, show_default=True, help="At least 3.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Shuffles the patients of each class.",
)
@click.option(
    "--out",
    default=Path("folds.csv"),
    show_default=True,
    type=LocalPath(dir_okay=False),
    help="The table: patient_id, fold. One that holds other folds is left as it is.",
)
@json_option
def folds(*, source: Path, num_folds: int, seed: int, out: Path, as_json: bool) -> None:
    """Split the labelled patients of COHORT|STORE into stratified folds.

    With K folds, fold k is tested by heads trained on all but folds k and k+1, and validated on
    fold k+1.
    """
    from aml_mil.cohort import make_folds, write_folds

    labels, num_unlabelled = _labels_of(source)
    try:
        fold_of = make_folds(labels, num_folds=num_folds, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _refuse_to_overwrite(out, fold_of)
    write_folds(out, fold_of)
    counts = Counter((fold, labels[patient]) for patient, fold in fold_of.items())
    classes = sorted(set(labels.values()))
    table = [[fold, *(counts[fold, name] for name in classes)] for fold in range(num_folds)]
    if as_json:
        rows = [dict(zip(("fold", *classes), row, strict=True)) for row in table]
        print_json({"folds": str(out), "classes": classes, "patients": rows})
    else:
        print_table(table, headers=["fold", *classes])
    note(f"{len(fold_of)} patients written to {out}")
    if num_unlabelled:
        note(f"{num_unlabelled} patients without a label were left out")


def _refuse_to_overwrite(out: Path, fold_of: Mapping[str, int]) -> None:
    """Leave alone what stands there already: folds that runs and encoders go by, or any file."""
    from aml_mil.cohort import CohortError, read_folds

    if not out.is_file():
        return
    try:
        is_same = read_folds(out) == fold_of
    except CohortError:
        is_same = False
    if not is_same:
        raise CommandError(f"{out} is there and is not these folds; name another file or remove it")


def _labels_of(source: Path) -> tuple[dict[str, str], int]:
    """Return the labels by patient, and how many patients have none."""
    from aml_mil.cohort import read_cohort
    from stores import NotAStoreError, open_store

    try:
        store = open_store(source)
    except NotAStoreError:
        cohort = read_cohort(source)
        return cohort.labels, len(cohort.patients) - len(cohort.labels)
    with store:
        labels = {bag_id: store.record(bag_id).label for bag_id in store.bag_ids}
    known = {bag_id: label for bag_id, label in labels.items() if label}
    return known, len(labels) - len(known)
