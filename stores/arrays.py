"""The arrays of a bag as bytes: one spelling per array, and the hash over it.

Numbers are little-endian and C-contiguous. Texts are a count and then, for each, its length and
its UTF-8 bytes, the integers being little-endian uint32: the layout of Zarr's ``vlen-utf8``.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from stores.documents import canonical_json
from stores.schema import TEXT_DTYPE, ArraySpec

ArrayValue: TypeAlias = NDArray[Any] | tuple[str, ...]

COUNT = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayEntry:
    """Where an array lies in its file, and what its bytes hash to.

    Attributes:
        spec: Shape and dtype.
        sha256: Over the canonical bytes; the same in both formats.
        crc32c: Over the bytes in the file, for readers that cannot afford SHA-256.
        offset: First byte in the file.
        nbytes: Number of bytes in the file.
    """

    spec: ArraySpec
    sha256: str
    crc32c: int
    offset: int
    nbytes: int


def spec_of(value: ArrayValue) -> ArraySpec:
    """Describe an array."""
    if isinstance(value, tuple):
        return ArraySpec(shape=(len(value),), dtype=TEXT_DTYPE)
    return ArraySpec(shape=value.shape, dtype=value.dtype.name)


def num_bytes(spec: ArraySpec) -> int:
    """Count the bytes of an array of numbers."""
    return prod(spec.shape) * np.dtype(spec.dtype).itemsize


def encode_texts(texts: tuple[str, ...]) -> bytes:
    """Spell texts as bytes; the inverse of ``decode_texts``."""
    parts = [COUNT.pack(len(texts))]
    for text in texts:
        data = text.encode()
        parts += (COUNT.pack(len(data)), data)
    return b"".join(parts)


def decode_texts(data: bytes) -> tuple[str, ...]:
    """Read texts from bytes.

    Raises:
        ValueError: the bytes do not hold exactly what they announce, or no UTF-8.
    """
    try:
        (count,) = COUNT.unpack_from(data)
        texts, position = [], COUNT.size
        for _ in range(count):
            (length,) = COUNT.unpack_from(data, position)
            position += COUNT.size + length
            if position > len(data):
                raise ValueError("texts end early")
            texts.append(data[position - length : position].decode())
    except struct.error as error:
        raise ValueError("texts end early") from error
    if position != len(data):
        raise ValueError("bytes are left after the texts")
    return tuple(texts)


def array_bytes(value: ArrayValue) -> memoryview:
    """Return the canonical bytes of an array, without a copy where it has that layout."""
    if isinstance(value, tuple):
        return memoryview(encode_texts(value))
    little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def array_sha256(value: ArrayValue) -> str:
    """Hash the canonical bytes of an array."""
    return hashlib.sha256(array_bytes(value)).hexdigest()


def crc32c(data: NDArray[np.uint8]) -> int:
    """Return the CRC-32C of bytes, as Zarr and iSCSI define it."""
    return int(google_crc32c.value(data))


def content_sha256(arrays: Mapping[str, tuple[ArraySpec, str]]) -> str:
    """Hash name, shape, dtype and content hash of all arrays of a bag."""
    return hashlib.sha256(
        canonical_json(
            {
                name: {"shape": list(spec.shape), "dtype": spec.dtype, "sha256": sha256}
                for name, (spec, sha256) in arrays.items()
            }
        )
    ).hexdigest()
