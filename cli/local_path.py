"""Files and folders of this machine, as commands take them."""

from pathlib import Path
from typing import Any

import click


class LocalPath(click.Path):
    """A path that cannot be a URL: of one, `Path` would make a folder named ``s3:``."""

    def __init__(
        self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True
    ) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn text into a path, and refuse a URL."""
        if "://" in str(value):
            self.fail(
                f"expected a local path, got {value}: only feature stores can lie at a URL; "
                "download what is to be read, and write to a local path",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)
