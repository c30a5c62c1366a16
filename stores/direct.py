"""The numbers of a bag, read from the disk to where they are wanted, and checked on the way.

The commit record says where in which file an array lies, and its CRC-32C: neither a library nor a
second copy is needed. One byte in four billion damaged ones would go unseen; ``verify_store`` and
``read`` compare by SHA-256.
"""

import os
from collections.abc import Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from stores.documents import DocumentError

PIECE_BYTES = 2**17  # read and checked while it is in the cache of the core


def read_into(
    path: str, *, file_nbytes: int, offset: int, crc32c: int, targets: Sequence[NDArray[np.uint8]]
) -> None:
    """Read an array into pieces of memory that lie apart.

    Args:
        path: Of the file.
        file_nbytes: How long the file must be.
        offset: Of the array in it.
        crc32c: Of the bytes of the array.
        targets: Contiguous bytes, to be filled in turn; together as long as the array.

    Raises:
        DocumentError: the file or its bytes are not those that were committed.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_size != file_nbytes:
            raise DocumentError(f"{path} is not as long as it was committed")
        checksum = 0
        for target in targets:
            for start in range(0, len(target), PIECE_BYTES):
                piece = target[start : start + PIECE_BYTES]
                if os.preadv(descriptor, [piece.data], offset) != len(piece):
                    raise DocumentError(f"{path} ends early")
                checksum = google_crc32c.extend(checksum, piece)
                offset += len(piece)
    finally:
        os.close(descriptor)
    if checksum != crc32c:
        raise DocumentError(f"{path} is not what was committed (its CRC-32C differs)")
