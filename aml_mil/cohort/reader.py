"""A process that reads cell files for another, into memory that both see.

``python -m aml_mil.cohort.reader DESCRIPTOR SLOTS CELLS PIXELS``: the memory, and its shape. A line
of stdin is a slot and paths, as JSON; the line of stdout that answers it is what became of them.
"""

import json
import mmap
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort.cell_file import load_file


def map_images(descriptor: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Map the shared memory.

    Args:
        descriptor: Of an open file that is large enough.
        shape: Slots, cells of a slot, pixels a side.

    Returns:
        [slots, cells, S, S, 3]
    """
    slots, cells, side = shape
    whole = (slots, cells, side, side, 3)
    memory = mmap.mmap(descriptor, int(np.prod(whole, dtype=np.int64)))
    return np.ndarray(whole, dtype=np.uint8, buffer=memory)


def read_into(image: NDArray[np.uint8], path: Path) -> dict[str, Any]:
    """Read a file into its place; tells what became of it but the picture."""
    found = load_file(path, image_size_px=len(image))
    if found.image is not None:
        image[...] = found.image
    return {
        "sha256": found.sha256,
        "colour": None if found.colour is None else found.colour.tolist(),
        "damage": found.damage,
        "io_error": found.io_error,
    }


def main() -> None:
    """Answer until there are no more questions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asks
    cv2.setNumThreads(1)
    descriptor, *shape = map(int, sys.argv[1:])
    slots, cells, side = shape
    images = map_images(descriptor, (slots, cells, side))
    for line in sys.stdin.buffer:
        slot, paths = json.loads(line)
        found = [read_into(images[slot, place], Path(path)) for place, path in enumerate(paths)]
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
