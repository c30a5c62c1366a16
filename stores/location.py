"""Where a store is: a folder, or a URL that fsspec knows."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self, cast

# Two letters at least, so that no drive of Windows is a scheme; a URL that has gone through
# pathlib has lost one of its slashes.
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL that is named, compared and printed as a path is; only its own store reads from it.

    Attributes:
        text: Without a slash at its end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __fspath__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """Last part."""
        return PurePosixPath(self.text).name

    @property
    def stem(self) -> str:
        """Last part without its suffix."""
        return PurePosixPath(self.text).stem

    @property
    def suffix(self) -> str:
        """Suffix with its dot."""
        return PurePosixPath(self.text).suffix

    def absolute(self) -> Self:
        """Return itself: a URL is absolute."""
        return self

    def resolve(self) -> Self:
        """Return itself: there are no links."""
        return self


def locate(path: Path | str) -> Path:
    """Tell a URL from a path.

    Args:
        path: Either, as text or as a path that was made of it.

    Returns:
        A path, or a `StoreUrl` in its place: ``s3://bucket/cells.zarr``, also of
        ``Path("s3://bucket/cells.zarr")``.
    """
    match = URL.fullmatch(str(path))
    if match is None:
        return Path(path)
    slashes = ":///" if match[1] in ("file", "local") else "://"
    return cast("Path", StoreUrl(match[1] + slashes + match[2].rstrip("/")))


def is_url(path: Path) -> bool:
    """Tell whether `locate` found a URL."""
    return isinstance(path, StoreUrl)
