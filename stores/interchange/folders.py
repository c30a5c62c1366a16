"""Files of a neighbour's folder as bags: listed in natural order, every id once."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from natsort import natsorted

from stores.interchange.errors import SourceError, name_some


def files_of(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """List the files of a folder by the name before the suffix, in natural order; hidden ones not.

    Raises:
        SourceError: no folder, no such file, or two files of one name.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; check the path")
    names = natsorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in suffixes and not entry.name.startswith(".") and entry.is_file()
    )
    if not names:
        raise SourceError(f"{folder} holds no {' or '.join(suffixes)} file; check the path")
    found: dict[str, Path] = {}
    for name in names:
        path = folder / name
        if path.stem in found:
            raise SourceError(
                f"{folder} holds bag {path.stem!r} twice: {found[path.stem].name}, {name}; "
                "remove one"
            )
        found[path.stem] = path
    return found


def check_distinct(ids: Iterable[str], *, place: str) -> None:
    """Refuse an id that occurs twice.

    Raises:
        SourceError: one does.
    """
    seen: set[str] = set()
    twice: list[str] = []
    for item in ids:
        if item in seen:
            twice.append(item)
        seen.add(item)
    if twice:
        raise SourceError(f"{place}: ids occur twice: {name_some(sorted(set(twice)))}; keep one")


def one_value(values: Iterable[str | None], *, place: str, what: str) -> str | None:
    """Return the one value all bags agree on; None where none has any.

    Raises:
        SourceError: they differ.
    """
    found = sorted({value for value in values if value is not None})
    if len(found) > 1:
        raise SourceError(
            f"{place}: the files name several {what}: {name_some(found)}; import them apart"
        )
    return found[0] if found else None
