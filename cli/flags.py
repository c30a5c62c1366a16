"""Config dataclasses as command-line options, and options as config dataclasses.

The dataclass is the one place that knows a setting: its default, its type, and, in the docstring's
`Attributes` section, what it means. Precedence: defaults < `--config FILE` < flags.
"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.local_path import LocalPath
from cli.settings import read_settings

Config = TypeVar("Config")
Command = TypeVar("Command", bound=Callable[..., Any])
PIXELS = "_px"


class NumberList(click.ParamType[tuple[float, ...]]):
    """Numbers, comma-separated.

    Args:
        number: What each is: int or float.
    """

    def __init__(self, number: type[float]) -> None:
        self._number = number
        self.name = f"{number.__name__},{number.__name__},…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Turn `1,2,3` into a tuple."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(self._number(part) for part in value.split(","))
        except ValueError:
            kind = "whole numbers" if self._number is int else "numbers"
            self.fail(f"expected {kind} separated by commas, got {value!r}", param, ctx)


def describe_fields(config_class: type) -> dict[str, str]:
    """Read what each field means from the `Attributes` section of a dataclass's docstring.

    Args:
        config_class: A dataclass with a Google docstring.

    Returns:
        Field name → text in one line, without a final full stop.
    """
    section = re.split(r"(?:Args|Attributes):\n", config_class.__doc__ or "", maxsplit=1)[-1]
    descriptions: dict[str, str] = {}
    name = ""
    for line in section.split("\n\n")[0].splitlines():
        if found := re.match(r"^\s{4,8}(\w+): (.*)", line):
            name = found[1]
            descriptions[name] = found[2]
        elif name:
            descriptions[name] += " " + line.strip()
    return {key: text.strip().rstrip(".") for key, text in descriptions.items()}


def legend_of(config_class: type) -> str:
    """Read the paragraph of a dataclass's docstring that says what `Source: P` stands for.

    Args:
        config_class: A dataclass with a Google docstring.

    Returns:
        The text in one line; "" where there is none.
    """
    found = re.search(
        r"^ *(Sources: .+?)\n\n", config_class.__doc__ or "", re.DOTALL | re.MULTILINE
    )
    return " ".join(found[1].split()) if found else ""


def config_options(
    config_class: type, *, leave_out: Collection[str] = (), kept_as: str | None = None
) -> Callable[[Command], Command]:
    """Give a command one option for each field of its config, and `--config FILE`.

    Args:
        config_class: A dataclass whose every field has a default.
        leave_out: Fields that the command sets otherwise.
        kept_as: Name of the file in which the command's runs keep their settings, if they do.

    Returns:
        A decorator; the command takes the fields' values by name.
    """

    def decorate(command: Command) -> Command:
        descriptions = describe_fields(config_class)
        hints = typing.get_type_hints(config_class)
        for field in reversed(dataclasses.fields(config_class)):
            if field.name not in leave_out:
                text = descriptions[field.name]
                command = _option(field, hints[field.name], text)(command)
        return click.option(
            "--config",
            "config_path",
            type=LocalPath(exists=True, dir_okay=False),
            help=f"Settings by name as a JSON object, such as {_example(config_class)}{earlier}; "
            "flags win over it.",
        )(command)

    earlier = f", or the {kept_as} of an earlier run" if kept_as else ""
    return decorate


def _example(config_class: type) -> str:
    """Write the first setting that has a value."""
    fields = ((field.name, field.default) for field in dataclasses.fields(config_class))
    return json.dumps(dict([next((name, value) for name, value in fields if value is not None)]))


def flag_of(name: str) -> str:
    """Name the flag of a setting; its unit, pixels, stands behind it in the help."""
    return "--" + name.removesuffix(PIXELS).replace("_", "-")


def _option(field: "dataclasses.Field[Any]", hint: Any, text: str) -> Callable[[Command], Command]:
    flag = flag_of(field.name)
    if hint is bool:
        names = flag if field.default is False else f"{flag}/--no-{flag.removeprefix('--')}"
        return click.option(
            names, field.name, default=field.default, is_flag=True, help=text, show_default=True
        )
    if hint == tuple[str, ...]:
        return click.option(
            flag, field.name, multiple=True, default=field.default, help=text, metavar="NAME"
        )
    return click.option(
        flag,
        field.name,
        type=_click_type(hint),
        default=field.default,
        help=text,
        metavar="PX" if field.name.endswith(PIXELS) else None,
        show_default=field.default is not None
        and (",".join(map(str, field.default)) if isinstance(field.default, tuple) else True),
    )


def _click_type(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return NumberList(typing.get_args(hint)[0])
    return hint


def config_from(
    config_class: type[Config],
    values: dict[str, Any],
    *,
    config_path: Path | None,
    section: str = "config",
) -> Config:
    """Build a config from defaults, a config file and flags, inside a running command.

    Args:
        config_class: A dataclass.
        values: Every option's value by field name.
        config_path: A JSON file of settings.
        section: Where the settings stand in the file; else the whole document is taken.

    Returns:
        The config.

    Raises:
        click.UsageError: A setting is unknown or out of range.
    """
    ctx = click.get_current_context()
    hints = typing.get_type_hints(config_class)
    names = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    settings = read_settings(config_path, hints, section=section) if config_path else {}
    settings |= {
        name: value
        for name, value in values.items()
        if name in names and (name not in settings or is_given(name))
    }
    try:
        return config_class(**settings)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from error


def is_given(name: str) -> bool:
    """Whether the user wrote an option of the running command, rather than taking its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def refuse_if_given(name: str, where: str) -> None:
    """Refuse an option that would do nothing in the running command.

    Args:
        name: Of the option, as the command takes it.
        where: What it has no effect beside: `beside --folds`.

    Raises:
        click.UsageError: The user wrote it.
    """
    if is_given(name):
        flag = flag_of(name)
        raise click.UsageError(f"{flag} has no effect {where}; leave one of them out")
