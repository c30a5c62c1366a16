import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores.hdf5_layout import Hdf5Layout
from stores.zarr_layout import ZarrLayout
from tests.stores.faults import remembering

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def unsynced_disk():
    """Skip the waiting for the disk; what syncs are for is shown on the model of power_loss.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests write tens of thousands of files."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="aml-mil-stores-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the files of each bag once, where it is at stake what becomes of them."""
    for kind in (ZarrLayout, Hdf5Layout):
        monkeypatch.setattr(kind, "build_image", remembering(kind.build_image))
