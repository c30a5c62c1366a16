"""What the compressed chunks of a foreign Zarr array take in memory, before a codec sees them.

Zarr's codecs inflate a chunk to what its stream announces or holds, whatever the array's shape
says.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from stores.claims import FREE_BYTES, MAX_EXPANSION, check_claim

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_OR_ZLIB = 47  # bits of the window: either header is understood


EMPTY = 2**64 - 1  # place and size of a chunk that a shard does not hold


class Shards(NamedTuple):
    """How a file holds several chunks and the index that tells where each lies."""

    num_chunks: int
    index_bytes: int
    is_index_first: bool


def check_chunks(paths: Iterable[Path], compressor: str, shards: Shards | None) -> None:
    """Refuse chunks that would take more memory than an honest file needs.

    Args:
        paths: Files of the chunks.
        compressor: The codec they went through last, a key of ``SIZES``.
        shards: How a file is divided; None where a file is a chunk.

    Raises:
        OSError: one cannot be read.
        ValueError: one is cut, does not tell its size, or is a bomb.
    """
    for path in paths:
        data = path.read_bytes()
        for chunk in _divide(data, shards) if shards else (data,):
            try:
                size = SIZES[compressor](chunk)
            except (IndexError, zlib.error) as error:
                raise ValueError(f"{path} is no {compressor} chunk ({error})") from error
            check_claim(size, len(chunk), what=str(path))


def _divide(data: bytes, shards: Shards) -> Iterator[bytes]:
    """Take the chunks out of a shard (Zarr v3, sharding-indexed codec, version 1.0)."""
    size = shards.index_bytes
    index = data[:size] if shards.is_index_first else data[-size:]
    if len(index) < size:
        raise ValueError("a shard is shorter than its index")
    places = np.frombuffer(index, "<u8", count=2 * shards.num_chunks).reshape(-1, 2)
    for start, length in places.tolist():
        if start == length == EMPTY:
            continue
        if start + length > len(data):
            raise ValueError("a chunk of a shard lies outside of it")
        yield data[start : start + length]


def _inflated(data: bytes) -> int:
    """Inflate a chunk as far as is allowed, and give its size."""
    stream = zlib.decompressobj(GZIP_OR_ZLIB)
    size = len(stream.decompress(data, max(FREE_BYTES, MAX_EXPANSION * len(data)) + 1))
    if stream.eof and stream.unused_data:
        raise ValueError("a chunk goes on after the end of its gzip stream")
    return size


def _zstd(data: bytes) -> int:
    """Read the content size of the first frame (RFC 8878, section 3.1.1.1)."""
    if data[:4] != ZSTD_MAGIC:
        raise ValueError("a chunk is no Zstandard frame")
    descriptor = data[4]
    is_single = bool(descriptor & 0x20)
    start = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    width = (int(is_single), 2, 4, 8)[descriptor >> 6]
    if not width:
        raise ValueError("a Zstandard chunk does not tell its size; write the file again")
    return int.from_bytes(data[start : start + width], "little") + 256 * (width == 2)


def _blosc(data: bytes) -> int:
    if len(data) < 16:
        raise IndexError("cut in its head")
    return int.from_bytes(data[4:8], "little")


def _lz4(data: bytes) -> int:
    if len(data) < 4:
        raise IndexError("cut in its head")
    return int.from_bytes(data[:4], "little")


SIZES: MappingProxyType[str, Callable[[bytes], int]] = MappingProxyType(
    {"gzip": _inflated, "zlib": _inflated, "zstd": _zstd, "blosc": _blosc, "lz4": _lz4}
)
