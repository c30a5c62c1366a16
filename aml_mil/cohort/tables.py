"""Read CSV tables by column name, as spreadsheets and other people's tools write them.

Delimiter and encoding are found out, unnamed index columns are dropped, and a µ that an encoding
ate is dropped from every column name, so that parts of one table agree.
"""

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_mil.cohort.errors import TableError, name_some
from aml_mil.cohort.patients import Attribute

_DELIMITERS = ",;\t|"
_LOST_MICRO = re.compile("Â?[µμ]|\ufffd")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A CSV table as text.

    Attributes:
        path: Where it was read from.
        columns: Named columns in their order.
        rows: One mapping of column to stripped text a row.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def read_table(path: str | Path, *, required: Collection[str] = ()) -> Table:
    """Read a CSV file with a header.

    Args:
        path: The file: UTF-8 with or without a mark, UTF-16, or Windows-1252/Latin-1, delimited by
            comma, semicolon, tab or bar.
        required: Columns that must be there.

    Returns:
        Rows that are not blank, as text.

    Raises:
        TableError: The file cannot be read, a required column is missing, a column stands twice,
            or a row has another number of fields than the header.
    """
    source = Path(path)
    text = _decode(source).lstrip("\r\n ")
    delimiter = _delimiter(text.partition("\n")[0])
    lines = io.StringIO(text, newline="")
    try:
        records = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        message = f"cannot read {source} as csv: {error}; check its quotes"
        raise TableError(message) from error
    if not records:
        message = f"expected a header and rows in {source}, got an empty file"
        raise TableError(message)
    header = [_column_name(name) for name in records[0]]
    _check_header(source, header, required)
    _check_lengths(source, header, records)
    rows = tuple(
        {name: value.strip() for name, value in zip(header, record, strict=True) if name}
        for record in records[1:]
    )
    return Table(path=source, columns=tuple(name for name in header if name), rows=rows)


def parse_attribute(text: str) -> Attribute:
    """Turn a field into a number where it is one: decimal commas count, leading zeros do not.

    Returns:
        None for an empty field, int or float for a number (``"44,4"`` is 44.4), else the text.
    """
    if text.casefold() in _EMPTY:
        return None
    if not _NUMBER.fullmatch(text):
        return text
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text.replace(",", "."))


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror or error}; check the path"
        raise TableError(message) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings: Sequence[str] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    message = f"cannot read {path} as text; save it as UTF-8"
    raise TableError(message)


def _delimiter(header: str) -> str:
    bare = re.sub('"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


def _column_name(name: str) -> str:
    stripped = _LOST_MICRO.sub("", name).strip()
    return "" if re.fullmatch(r"Unnamed: \d+", stripped) else stripped


def _check_header(source: Path, header: Sequence[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        named = [name for name in header if name]
        message = (
            f"columns missing in {source}: {name_some(missing)}; it has {name_some(named)}; "
            f"rename or add them"
        )
        raise TableError(message)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        message = f"columns that stand twice in {source}: {name_some(twice)}; keep one of each"
        raise TableError(message)


def _check_lengths(source: Path, header: Sequence[str], records: Sequence[Sequence[str]]) -> None:
    ragged = [i for i, record in enumerate(records) if len(record) != len(header)]
    if ragged:
        message = (
            f"expected {len(header)} fields in every row of {source}, got {len(records[ragged[0]])}"
            f" in row {ragged[0]}; rows concerned: {name_some(map(str, ragged))}; "
            f"quote decimal commas, fill in missing fields"
        )
        raise TableError(message)
