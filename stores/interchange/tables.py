"""Neighbours' CSV tables: read by the names of their columns, every id once."""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stores.interchange.errors import SourceError, name_some
from stores.interchange.source import Finding, ImportOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """Labels by bag id.

    Attributes:
        path: The file.
        labels: None where the field is empty.
        attributes: The other columns.
    """

    path: Path
    labels: Mapping[str, str | None]
    attributes: Mapping[str, Mapping[str, str]]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table row by row, each with its line number and its fields by column, stripped.

    Raises:
        SourceError: no table, a column twice, or a row of another length than the header.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice or not header:
                what = f"its columns {name_some(twice)} occur twice" if twice else "it is empty"
                raise SourceError(f"{path} is no table: {what}")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise SourceError(
                        f"{path} line {reader.line_num} has {len(row)} fields, "
                        f"expected {len(header)} as in the header"
                    )
                fields = zip(header, (value.strip() for value in row), strict=True)
                yield reader.line_num, dict(fields)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is no table in UTF-8: {error}") from error


def read_header(path: Path) -> tuple[str, ...]:
    """Read the names of the columns; none where the file is no table.

    A table in another encoding than UTF-8 is known by its columns too: `read_rows` refuses it.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return tuple(name.strip() for name in next(csv.reader(file, delimiter=delimiter), []))
    except csv.Error:
        return ()


def pick_column(path: Path, header: Collection[str], names: Sequence[str], *, what: str) -> str:
    """Pick the one column of a table that holds something.

    Raises:
        SourceError: none of the names, or more than one, is a column.
    """
    found = [name for name in names if name in header]
    if len(found) == 1:
        return found[0]
    if found:
        raise SourceError(
            f"{path} has several columns for the {what}: {name_some(found)}; name the one to use"
        )
    raise SourceError(
        f"{path} has no column {' or '.join(names)} for the {what}, "
        f"it has {name_some(list(header))}; name the column to use"
    )


def find_table(folder: Path, *column_sets: Sequence[str]) -> Path | None:
    """Find the one CSV of a folder that has a column of each set; None if there is none.

    Raises:
        SourceError: several tables could be meant.
    """
    found = []
    for path in sorted(folder.glob("*.[ct]sv")):
        header = read_header(path)
        if all(any(name in header for name in names) for names in column_sets):
            found.append(path)
    if len(found) > 1:
        names = name_some([path.name for path in found])
        raise SourceError(f"{folder} holds several tables that may be meant: {names}; say which")
    return found[0] if found else None


def read_labels(
    path: Path, *, id_columns: Sequence[str], label_columns: Sequence[str]
) -> LabelTable:
    """Read a table of labels.

    Args:
        path: CSV, or TSV by its suffix.
        id_columns: Names the column of ids may have.
        label_columns: Names the column of labels may have.

    Raises:
        SourceError: a column is missing, an id is empty or occurs twice.
    """
    header = read_header(path)
    id_column = pick_column(path, header, id_columns, what="ids")
    label_column = pick_column(path, header, label_columns, what="labels")
    labels: dict[str, str | None] = {}
    attributes: dict[str, Mapping[str, str]] = {}
    for line, row in read_rows(path):
        bag_id = row.pop(id_column)
        if not bag_id:
            raise SourceError(f"{path} line {line} has no {id_column}; fill it in or drop the row")
        if bag_id in labels:
            raise SourceError(f"{path} line {line}: {id_column} {bag_id!r} occurs twice; keep one")
        labels[bag_id] = row.pop(label_column) or None
        attributes[bag_id] = {name: value for name, value in row.items() if name and value}
    return LabelTable(path=path, labels=labels, attributes=attributes)


def labels_for(
    folder: Path, options: ImportOptions, *, id_columns: Sequence[str], label_columns: Sequence[str]
) -> LabelTable | None:
    """Read the table the user names, else the one in the folder; None if there is none.

    Raises:
        SourceError: the table is not usable, or several could be meant.
    """
    ids = (options.id_column,) if options.id_column else tuple(id_columns)
    labels = (options.label_column,) if options.label_column else tuple(label_columns)
    path = options.labels or find_table(folder, ids, labels)
    return None if path is None else read_labels(path, id_columns=ids, label_columns=labels)


def notes_on(table: LabelTable | None) -> tuple[str, ...]:
    """Say where labels come from."""
    return () if table is None else (f"labels from {table.path}",)


def check_labels(
    table: LabelTable | None, bag_ids: Sequence[str], *, allow_unknown: bool
) -> tuple[Finding, ...]:
    """Report bags without a label, and refuse labels without a bag.

    Raises:
        SourceError: the table names bags that are not there, and that is not allowed.
    """
    if table is None:
        return tuple(
            Finding(bag_id=bag_id, problem="no label: there is no table of labels")
            for bag_id in bag_ids
        )
    known = set(bag_ids)
    unknown = sorted(table.labels.keys() - known)
    if unknown and not allow_unknown:
        raise SourceError(
            f"{table.path} has labels of bags that are not there: "
            f"{name_some(unknown, total=len(table.labels))}; drop the rows or allow unknown labels"
        )
    findings = [
        Finding(bag_id=bag_id, problem=f"its label in {table.path.name} has no bag; left out")
        for bag_id in unknown
    ]
    for bag_id in bag_ids:
        if table.labels.get(bag_id) is None:
            state = "is empty" if bag_id in table.labels else "is missing"
            findings.append(
                Finding(bag_id=bag_id, problem=f"no label: it {state} in {table.path.name}")
            )
    return tuple(findings)
