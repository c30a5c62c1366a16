"""A folder of bags as Zarr groups, with the group documents above them for other readers."""

from pathlib import Path
from typing import ClassVar

import zarr

from stores.layout import BagLayout
from stores.local_store import LocalStore
from stores.place import BAGS_DIR
from stores.zarr_layout import METADATA_FILE, ZarrLayout


class ZarrStore(LocalStore):
    """A store that zarr finds its way in as well."""

    layout: ClassVar[BagLayout] = ZarrLayout()

    def frame_error(self) -> str | None:
        """Say whether zarr finds its way to the bags."""
        try:
            zarr.open_group(self.path, mode="r", zarr_format=3)[BAGS_DIR]
        except (OSError, ValueError, TypeError, KeyError) as error:
            return f"zarr cannot open the groups above the bags ({error})"
        return None


def group_documents(path: Path) -> tuple[Path, Path]:
    """Name the metadata of the groups above the bags; this package never reads them."""
    return path / METADATA_FILE, path / BAGS_DIR / METADATA_FILE
