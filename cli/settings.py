"""Settings in a JSON file: known by name, and each of its field's type."""

import difflib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


def read_settings(path: Path, hints: Mapping[str, Any], *, section: str) -> dict[str, Any]:
    """Read a JSON object of settings.

    Args:
        path: The file.
        hints: Type of each setting there is, by name.
        section: Where they stand in the document; else the whole of it is taken.

    Returns:
        Settings by name, lists as tuples.

    Raises:
        click.UsageError: A setting is unknown, or its value of another type.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise click.UsageError(f"{path}: not a JSON file: {error}") from error
    settings = document.get(section, document) if isinstance(document, dict) else None
    if not isinstance(settings, dict):
        raise click.UsageError(f"{path}: expected a JSON object of settings")
    for key in settings:
        if key not in hints:
            near = difflib.get_close_matches(key, list(hints), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"{path}: unknown setting {key!r}{hint}")
    found = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    for key, value in found.items():
        if not _fits(value, hints[key]):
            expected = _say_type(hints[key])
            message = f"{path}: {key}: expected {expected}, got {json.dumps(settings[key])}"
            raise click.UsageError(message)
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a JSON document is what a field holds."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(
            _fits(item, typing.get_args(hint)[0]) for item in value
        )
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _say_type(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_say_type(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return f"a list of {_say_type(typing.get_args(hint)[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, "null")
