"""Where a store is, or is to be made: a path or a URL."""

from pathlib import Path
from typing import Any

import click


class StorePath(click.ParamType[Path]):
    """A path, or a URL that fsspec knows, of which `Path` would drop a slash."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Turn text into a path that is printed as it was written."""
        from stores.location import locate

        return locate(value)


class NewStorePath(StorePath):
    """A path whose suffix names the format of a store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Turn text into a path, and refuse a suffix that names no format."""
        from stores.open import check_suffix

        path = super().convert(value, param, ctx)
        try:
            check_suffix(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return path
