"""What tests of crafted files share."""

from pathlib import Path

import numpy as np
import pytest

from stores.interchange import SourceError
from tests.interchange.layouts import bring_in
from tests.limits import little_memory, names_below

SECRET = np.full((5, 8), 42, np.float32)
CHUNK = bytes(2**20)


class RunsCode:
    """Would leave a file behind if its pickle were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def assert_refused(layout: str, source: Path, message: str) -> None:
    """Import must say one line, in little memory, and leave everything as it was."""
    before = names_below(source.parent)
    with little_memory(), pytest.raises(SourceError, match=message) as caught:
        bring_in(layout, source, source.parent / "out.zarr")
    assert "\n" not in str(caught.value)
    assert names_below(source.parent) == before
