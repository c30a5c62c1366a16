"""What the compressed chunks of a foreign Zarr array take in memory, before a codec sees them.

Zarr's codecs inflate a chunk to what its stream announces or holds, whatever the array's shape
says.
"""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType

from stores.claims import FREE_BYTES, MAX_EXPANSION, check_claim

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_OR_ZLIB = 47  # bits of the window: either header is understood


def check_chunks(paths: Iterable[Path], compressor: str) -> None:
    """Refuse chunks that would take more memory than an honest file needs.

    Args:
        paths: Files of the chunks.
        compressor: The codec they went through last, a key of ``SIZES``.

    Raises:
        OSError: one cannot be read.
        ValueError: one is cut, does not tell its size, or is a bomb.
    """
    for path in paths:
        data = path.read_bytes()
        try:
            size = SIZES[compressor](data)
        except (IndexError, zlib.error) as error:
            raise ValueError(f"{path} is no {compressor} chunk ({error})") from error
        check_claim(size, len(data), what=str(path))


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
