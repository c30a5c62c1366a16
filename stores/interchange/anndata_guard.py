"""What an AnnData file must not hold before the library that reads all of it is let near.

AnnData's reader follows links, and Zarr's runs the codecs that the metadata names, one of which
unpickles.
"""

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stores.claims import check_claim
from stores.documents import MAX_DOCUMENT_BYTES
from stores.interchange.zarr_chunks import SIZES, Shards, check_chunks
from stores.plain_hdf5 import check_members

ARRAY_DOCUMENTS = ("zarr.json", ".zarray", ".zmetadata")
NO_CHUNKS = frozenset({*ARRAY_DOCUMENTS, ".zattrs", ".zgroup"})
CODEC_KEYS = frozenset({"codecs", "index_codecs", "compressor", "filters"})
SHARDING = "sharding_indexed"
CODECS = frozenset(
    {"bytes", "transpose", "vlen-utf8", "vlen-bytes", "crc32c", "shuffle", SHARDING, *SIZES}
)
MAX_CHUNKS = 2**24  # of one file
TEXT_BYTES = 16  # an element of an array of texts, whose size its shape does not tell


def check_file(path: Path) -> None:
    """Refuse links, other files, codecs that could run code, and sizes beyond the limits.

    Raises:
        OSError: it cannot be read.
        ValueError: one of these was found.
    """
    if path.is_dir():
        _check_zarr(path)
        return
    with h5py.File(path, "r") as file:
        check_members(file)


def _check_zarr(path: Path) -> None:
    for entry in path.rglob("*"):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise ValueError(f"{entry} is a link or no regular file")
        if entry.name in ARRAY_DOCUMENTS:
            if entry.stat().st_size > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{entry} has over {MAX_DOCUMENT_BYTES} bytes")
            document = json.loads(entry.read_bytes())
            _check_document(document, entry)
            if entry.name != ".zmetadata" and isinstance(document, Mapping):
                _check_array(document, entry)


def _check_document(document: object, where: Path) -> None:
    """Check the metadata of an array, or of many in one consolidated document."""
    for fields in _objects(document):
        for key in CODEC_KEYS & fields.keys():
            for codec in _objects(fields[key]):
                name = codec.get("name", codec.get("id"))
                if name is not None and name not in CODECS:
                    raise ValueError(f"{where} names the codec {name!r}, which is not run")
        if isinstance(shape := fields.get("shape"), list):
            dtype = fields.get("data_type", fields.get("dtype"))
            size = prod(int(side) for side in shape) * _item_bytes(dtype)
            stored = sum(f.stat().st_size for f in where.parent.rglob("*") if f.is_file())
            check_claim(size, stored, what=str(where))


def _check_array(document: Mapping[str, Any], where: Path) -> None:
    """Check the chunks of an array, which lie beside its metadata and below."""
    codecs = [codec for key in CODEC_KEYS & document.keys() for codec in _objects(document[key])]
    names = [str(codec.get("name", codec.get("id"))) for codec in codecs]
    compressors = [name for name in names if name in SIZES]
    if not isinstance(document.get("shape"), list) or not compressors:
        return
    if len(compressors) > 1:
        raise ValueError(f"{where} names {len(compressors)} compressors, expected at most one")
    files = (f for f in where.parent.rglob("*") if f.is_file() and f.name not in NO_CHUNKS)
    check_chunks(files, compressors[0], _shards(document, where) if SHARDING in names else None)


def _shards(document: Mapping[str, Any], where: Path) -> Shards:
    """Read how the files of an array are divided.

    Raises:
        ValueError: Not in the one way that is known.
    """
    try:
        (codec,) = document["codecs"]
        settings = codec["configuration"]
        index_codecs = [index_codec["name"] for index_codec in settings["index_codecs"]]
        outer = document["chunk_grid"]["configuration"]["chunk_shape"]
        num_chunks = prod(-(-n // m) for n, m in zip(outer, settings["chunk_shape"], strict=True))
        is_index_first = settings.get("index_location", "end") == "start"
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{where} does not tell how its files are divided ({error})") from error
    if index_codecs not in (["bytes"], ["bytes", "crc32c"]) or not 0 < num_chunks <= MAX_CHUNKS:
        raise ValueError(f"{where} divides its files in a way that is not read")
    return Shards(num_chunks, 16 * num_chunks + 4 * (len(index_codecs) - 1), is_index_first)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(inner, str) or not hasattr(inner, "__iter__"):
        return
    for item in inner:
        yield from _objects(item)


def _item_bytes(dtype: object) -> int:
    try:
        return np.dtype(str(dtype)).itemsize or TEXT_BYTES
    except TypeError:
        return TEXT_BYTES
