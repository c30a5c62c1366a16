"""A folder of bags as HDF5 files."""

from typing import ClassVar

from stores.hdf5_layout import Hdf5Layout
from stores.layout import BagLayout
from stores.local_store import LocalStore


class Hdf5Store(LocalStore):
    """A store whose bags h5py reads as well."""

    layout: ClassVar[BagLayout] = Hdf5Layout()
