"""A folder of bags as HDF5 files."""

from typing import ClassVar

from stores.base import FeatureStore
from stores.hdf5_layout import Hdf5Layout
from stores.layout import BagLayout


class Hdf5Store(FeatureStore):
    """A store whose bags h5py reads as well."""

    layout: ClassVar[BagLayout] = Hdf5Layout()
