"""Cells a second that threads and processes read and decode, and what keeps them from more.

    python -m benchmarks.decode_workers [--cells 20000] [--workers 1,2,4,8,16] [--json FILE]

Synthetic LZW TIFFs of 144 px, twenty patients drawn and the rest copies, and the same of 16 px,
which cost hardly anything but the interpreter: what threads reach there is the most they reach
anywhere, however many cores there are. Each cell's image is copied, as into a batch. `own_us` is
the CPU time that a cell takes of this process: where processes decode, its inverse is their
ceiling. Start-up is left out: the rate is that after the first tenth.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from aml_mil.cohort import Cell, Patient, read_cohort
from aml_mil.embedding import cells as loading
from benchmarks.embed_throughput import draw_cohort

SIDES_PX = (144, 16)
BATCH_SIZE = 256
CELLS_PER_PATIENT = 467


def measure(
    pairs: Sequence[tuple[Patient, Cell]], *, side_px: int, workers: int, max_threads: int
) -> tuple[float, float]:
    """Read all cells; gives cells a second, and µs of this process's CPU time a cell."""
    loading.MAX_THREADS = max_threads
    batch = np.empty((BATCH_SIZE, side_px, side_px, 3), dtype=np.uint8)
    loaded = loading.load_cells(
        pairs, image_size_px=side_px, workers=workers, lookahead=2 * BATCH_SIZE + workers
    )
    num_warm = len(pairs) // 10
    for _ in islice(loaded, num_warm):
        pass
    began, own = time.perf_counter(), time.process_time()
    for number, cell in enumerate(loaded):
        batch[number % BATCH_SIZE] = cell.image
    num = len(pairs) - num_warm
    return num / (time.perf_counter() - began), 1e6 * (time.process_time() - own) / num


def shrink(root: Path, *, side_px: int) -> None:
    """Make all pictures of a cohort small ones."""
    for path in root.rglob("*.tif"):
        with Image.open(path) as image:
            small = image.resize((side_px, side_px))
        small.save(path, compression="tiff_lzw")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--workers", default="1,2,4,8,16", help="separated by commas")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    counts = [int(count) for count in given.workers.split(",")]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = draw_cohort(
            Path(folder),
            num_cells=given.cells,
            cells_per_patient=min(CELLS_PER_PATIENT, given.cells),
            kind="tif",
        )
        for side_px in SIDES_PX:
            if side_px != SIDES_PX[0]:
                shrink(root, side_px=side_px)
            cohort = read_cohort(root)
            pairs = [(p, cell) for p in cohort.patients for cell in p.cells][: given.cells]
            for workers in counts:
                for name, max_threads in (("threads", workers), ("processes", 0)):
                    rate, own = measure(
                        pairs, side_px=side_px, workers=workers, max_threads=max_threads
                    )
                    results.append(
                        {
                            "side_px": side_px,
                            "workers": workers,
                            "kind": name,
                            "cells_per_s": rate,
                            "own_us": own,
                        }
                    )
    print(tabulate(results, headers="keys", floatfmt=".0f"))
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
