"""Bags as Zarr version 3 groups: ``bags/<id>/features`` and so on, one chunk per array."""

import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from stores.arrays import ArrayEntry, ArrayValue, decode_texts, spec_of
from stores.bag_folder import ArrayPlace, BagImage
from stores.commit_record import CommitRecord
from stores.documents import Fields
from stores.layout import BagLayout
from stores.schema import TEXT_ARRAYS, ArraySpec

METADATA_FILE = "zarr.json"
CRC_BYTES = 4


class KeptBuffers(MemoryStore):
    """Keeps the buffers it is given, where zarr from 3.4 on keeps copies.

    Nobody changes them: appending the CRC has made them.
    """

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Keep a whole buffer."""
        assert byte_range is None, "arrays are written whole"
        self.set_sync(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Keep a whole buffer."""
        self._store_dict[key] = value


class ZarrLayout(BagLayout):
    """A bag is a group, which ``zarr.open_group(path)["bags/<id>"]`` reads as well.

    Uncompressed (features hardly compress), with a CRC-32C behind every chunk as the second net.
    """

    format: ClassVar[str] = "zarr"

    def build_image(self, folder_name: str, arrays: Mapping[str, ArrayValue]) -> BagImage:
        """Build the group in memory; see ``BagLayout``."""
        contents: dict[str, Buffer] = {}
        group = zarr.create_group(KeptBuffers(contents), zarr_format=3)
        for name, value in arrays.items():
            values = np.array(value, dtype=object) if isinstance(value, tuple) else value
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=str if isinstance(value, tuple) else value.dtype,
                chunks=values.shape,
                filters=None,
                compressors=(Crc32cCodec(),),
                config={"write_empty_chunks": True},
            )
            array[...] = values
        places = {}
        for name, value in arrays.items():
            path = self.array_file(folder_name, name, spec_of(value))
            size = len(contents[path]) - CRC_BYTES
            places[name] = ArrayPlace(path=path, offset=0, nbytes=size)
        # The chunks themselves, not copies: a patient may have ten thousands of cells.
        files = {path: contents[path].as_numpy_array().data for path in sorted(contents)}
        return BagImage(files=files, places=places)

    def array_file(self, folder_name: str, name: str, spec: ArraySpec) -> str:
        """Name the only chunk of an array."""
        return f"{name}/c" + "/0" * len(spec.shape)

    def bag_files(self, folder_name: str, specs: Mapping[str, ArraySpec]) -> frozenset[str]:
        """Name the chunk and the metadata of every array, and the metadata of the group."""
        chunks = {self.array_file(folder_name, name, spec) for name, spec in specs.items()}
        return frozenset({METADATA_FILE, *chunks, *(f"{name}/{METADATA_FILE}" for name in specs)})

    def decode_stored_texts(self, data: bytes, count: int) -> tuple[str, ...]:
        """Read ``vlen-utf8``."""
        texts = decode_texts(data)
        if len(texts) != count:
            raise ValueError(f"{len(texts)} texts where {count} are expected")
        return texts

    def library_arrays(
        self, record: CommitRecord, contents: Mapping[str, NDArray[np.uint8]]
    ) -> dict[str, ArrayValue]:
        """Read all arrays by zarr."""
        for name, entry in record.arrays.items():
            _check_plain(name, entry, contents[f"{name}/{METADATA_FILE}"])
        buffers: dict[str, Buffer] = {
            path: cpu.Buffer.from_array_like(data) for path, data in contents.items()
        }
        group = zarr.open_group(MemoryStore(buffers, read_only=True), mode="r")
        arrays: dict[str, ArrayValue] = {}
        for name, array in group.arrays():
            values = np.asarray(array[...])
            is_text = values.dtype.kind not in "fiu"
            arrays[name] = tuple(str(text) for text in values) if is_text else values
        return arrays


def _check_plain(name: str, entry: ArrayEntry, data: NDArray[np.uint8]) -> None:
    """Refuse metadata that would make zarr do more than take one chunk as large as recorded."""
    fields = Fields(json.loads(data.tobytes()))
    chunks = Fields(Fields(fields.mapping("chunk_grid")).mapping("configuration"))
    codecs = [codec.text("name") for codec in fields.objects("codecs")]
    is_plain = (
        fields.counts("shape") == chunks.counts("chunk_shape") == entry.spec.shape
        and fields.text("data_type") == ("string" if name in TEXT_ARRAYS else entry.spec.dtype)
        and codecs == ["vlen-utf8" if name in TEXT_ARRAYS else "bytes", "crc32c"]
        and entry.offset == 0
    )
    if not is_plain:
        raise ValueError(f"{name} is laid out in another way than this package writes")


def group_document() -> bytes:
    """Return the metadata of a Zarr group without attributes, for the folders above the bags."""
    contents: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(contents), zarr_format=3)
    return contents[METADATA_FILE].to_bytes()
