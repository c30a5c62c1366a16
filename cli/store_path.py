"""The path of a store that is to be made."""

from pathlib import Path
from typing import Any

import click

from stores.open import check_suffix


class NewStorePath(click.ParamType[Path]):
    """A path whose suffix names the format of a store."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Turn text into a path, and refuse a suffix that names no format."""
        path = Path(value)
        try:
            check_suffix(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return path
