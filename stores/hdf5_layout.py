"""Bags as HDF5 files: ``bags/<id>/<id>.h5``, whose root carries the arrays."""

import io
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from stores.arrays import ArrayEntry, ArrayValue, array_bytes
from stores.bag_folder import ArrayPlace, BagImage
from stores.commit_record import CommitRecord
from stores.fletcher import fletcher32
from stores.layout import BagLayout
from stores.schema import TEXT_ARRAYS, ArraySpec

LIBRARY_VERSION = "v110"  # checksummed headers, and readable by every HDF5 since 1.10
LAYOUT = {
    "libver": (LIBRARY_VERSION, LIBRARY_VERSION),
    "alignment_threshold": 512,
    "alignment_interval": 64,
}
LARGE_BYTES = 2**25  # from here on the library's copies are worth avoiding
CHECKSUM_BYTES = 4
# Before HDF5 2.0 the image of an open file has a wrong checksum.
HAS_SOUND_IMAGES = h5py.version.hdf5_version_tuple >= (2, 0, 0)


class Hdf5Layout(BagLayout):
    """A bag is one file, which h5py reads as well.

    One uncompressed chunk per array, with Fletcher-32 as the second net; texts have fixed length.
    """

    format: ClassVar[str] = "hdf5"

    def build_image(self, folder_name: str, arrays: Mapping[str, ArrayValue]) -> BagImage:
        """Build the file in memory; see ``BagLayout``."""
        path = f"{folder_name}.h5"
        values = {
            name: _fixed_texts(value) if isinstance(value, tuple) else value
            for name, value in arrays.items()
        }
        num_bytes = sum(value.nbytes for value in values.values())
        is_small = num_bytes < LARGE_BYTES and HAS_SOUND_IMAGES
        image, offsets = (_draw if is_small else _draw_large)(values)
        places = {
            name: ArrayPlace(path=path, offset=offsets[name], nbytes=value.nbytes)
            for name, value in values.items()
        }
        return BagImage(files={path: image}, places=places)

    def array_file(self, folder_name: str, name: str, spec: ArraySpec) -> str:
        """Name the one file all arrays lie in."""
        return f"{folder_name}.h5"

    def bag_files(self, folder_name: str, specs: Mapping[str, ArraySpec]) -> frozenset[str]:
        """Name the one file."""
        return frozenset({f"{folder_name}.h5"})

    def decode_stored_texts(self, data: bytes, count: int) -> tuple[str, ...]:
        """Read texts of equal length, padded with NUL."""
        width = len(data) // count
        if not width or width * count != len(data):
            raise ValueError(f"{len(data)} bytes for {count} texts")
        padded = (data[start : start + width] for start in range(0, len(data), width))
        return tuple(text.rstrip(b"\0").decode() for text in padded)

    def library_arrays(
        self, record: CommitRecord, contents: Mapping[str, NDArray[np.uint8]]
    ) -> dict[str, ArrayValue]:
        """Read all arrays by h5py."""
        arrays: dict[str, ArrayValue] = {}
        [data] = contents.values()
        with h5py.File(io.BytesIO(data.data), "r") as file:
            if set(file) != record.arrays.keys():
                raise ValueError(f"its members are {sorted(file)[:5]}")
            for name, entry in record.arrays.items():
                values = _plain_dataset(file, name, entry)[...]
                is_text = name in TEXT_ARRAYS
                arrays[name] = tuple(text.decode() for text in values) if is_text else values
        return arrays


def _draw(arrays: Mapping[str, NDArray[Any]]) -> tuple[bytes, dict[str, int]]:
    """Let the library write everything; give the file, and where each array lies in it."""
    unique = secrets.token_hex(8)  # in memory, but two of one name would be one file
    offsets = {}
    with h5py.File(unique, "w", driver="core", backing_store=False, **LAYOUT) as file:
        for name, values in arrays.items():
            dataset = file.create_dataset(name, data=values, **_one_chunk(values))
            file.flush()
            offsets[name] = dataset.id.get_chunk_info(0).byte_offset
        return file.id.get_file_image(), offsets


def _draw_large(arrays: Mapping[str, NDArray[Any]]) -> tuple[memoryview, dict[str, int]]:
    """As `_draw`, in memory for one file, where the library takes three times that.

    It is shown zeros, which take no memory; the numbers and their checksums are put in their place.
    """
    offsets = {}
    file_bytes = io.BytesIO()
    with h5py.File(file_bytes, "w", **LAYOUT) as file:
        for name, values in arrays.items():
            dataset = file.create_dataset(name, dtype=values.dtype, **_one_chunk(values))
            zeros = np.zeros(values.nbytes + CHECKSUM_BYTES, dtype=np.uint8)
            dataset.id.write_direct_chunk((0,) * values.ndim, zeros)
            file.flush()
            offsets[name] = dataset.id.get_chunk_info(0).byte_offset
    image = file_bytes.getbuffer()
    for name, values in arrays.items():
        data, start = array_bytes(values), offsets[name]
        end = start + len(data)
        image[start:end] = data
        image[end : end + CHECKSUM_BYTES] = fletcher32(data)
    return image, offsets


def _one_chunk(values: NDArray[Any]) -> dict[str, Any]:
    return {
        "shape": values.shape,
        "chunks": values.shape,
        "fletcher32": True,
        "track_times": False,
    }


def _plain_dataset(file: h5py.File, name: str, entry: ArrayEntry) -> h5py.Dataset:
    """Open a dataset that lies in this file as ``build_image`` writes it, no larger than recorded.

    Links elsewhere are not followed; filters, virtual and external datasets are refused.
    """
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a {type(link).__name__}, expected a dataset")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__}, expected a dataset")
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    is_plain = (
        dataset.shape == dataset.chunks == entry.spec.shape
        and dataset.nbytes == entry.nbytes
        and dataset.dtype.kind == ("S" if name in TEXT_ARRAYS else "f")
        and filters == [h5py.h5z.FILTER_FLETCHER32]
    )
    if not is_plain:
        raise ValueError(f"{name} is laid out in another way than this package writes")
    return dataset


def _fixed_texts(texts: tuple[str, ...]) -> NDArray[np.bytes_]:
    encoded = [text.encode() for text in texts]
    width = max(1, *(len(text) for text in encoded))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
