"""The checksum of HDF5's chunks, for those that are put into their place without the library."""

import struct

import numpy as np

PIECE_BYTES = 2**17
MODULUS = 0xFFFF


def fletcher32(data: memoryview) -> bytes:
    """Sum bytes as HDF5's filter of that name does.

    Args:
        data: Of any length.

    Returns:
        Four bytes; zeros of nothing but zeros, "ab" gives those of 0x6162 twice.

    Source:
        ``H5_checksum_fletcher32`` in ``H5checksum.c`` of HDF5.
    """
    low = high = 0
    for start in range(0, len(data), PIECE_BYTES):
        piece = bytes(data[start : start + PIECE_BYTES])
        words = np.frombuffer(piece + b"\0" * (len(piece) % 2), dtype=">u2").astype(np.uint64)
        num = len(words)
        high += num * low + int(words @ np.arange(num, 0, -1, dtype=np.uint64))
        low += int(words.sum())
    return struct.pack("<I", _fold(high) << 16 | _fold(low))


def _fold(total: int) -> int:
    """Reduce to 16 bits as adding the carry does: never to 0, but from 0."""
    return (total - 1) % MODULUS + 1 if total else 0
