"""How fast this machine decodes and encodes, measured in seconds."""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path

import numpy as np

from aml_mil.cohort import Cohort, read_cohort
from aml_mil.cohort.synthetic import render_cohort
from aml_mil.embedding.cells import load_cells
from aml_mil.embedding.parallel import MAX_TOGETHER
from aml_mil.embedding.view_encoder import ViewEncoder

SAMPLE_CELLS = 32


def measure_decoding(
    cohort: Cohort | None, *, image_size_px: int, workers: int, seconds: float
) -> float:
    """Measure how many cells are read and decoded in a second.

    Args:
        cohort: Whose; drawn ones are taken where there is none.
        image_size_px: Side of the fitted images.
        workers: Threads or processes.
        seconds: How long to measure.

    Returns:
        Cells a second, by all together.
    """
    if cohort is None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "drawn"
            for _ in render_cohort(
                root, num_patients=2, cells_per_patient=SAMPLE_CELLS // 2, seed=0
            ):
                pass
            drawn = read_cohort(root)
            return measure_decoding(
                drawn, image_size_px=image_size_px, workers=workers, seconds=seconds
            )
    cells = [(patient, cell) for patient in cohort.patients for cell in patient.cells]
    step = max(1, len(cells) // 1_000)  # of all patients, though only for a moment

    pairs = (cells[place] for place in cycle(range(0, len(cells), step)))
    loaded = load_cells(
        pairs, image_size_px=image_size_px, workers=workers, lookahead=2 * MAX_TOGETHER * workers
    )
    with closing(loaded):
        next(loaded)  # the processes have started
        return _rate(lambda: len(next(loaded).cell.instance_id[:1]), seconds=seconds)


def measure_encoding(
    encoder: ViewEncoder, *, image_size_px: int, batch: int, seconds: float
) -> float:
    """Measure how many cells are encoded in a second, in all their views.

    Args:
        encoder: Ready to encode.
        image_size_px: Side of its images.
        batch: Images at a time.
        seconds: How long to measure.

    Returns:
        Cells a second.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch, image_size_px, image_size_px, 3), dtype=np.uint8)
    owners = ["patient"] * batch
    encoder.encode(images, owners)  # the first batch is slower than any other
    return _rate(lambda: len(encoder.encode(images, owners)[0]), seconds=seconds)


def _rate(work: Callable[[], int], *, seconds: float) -> float:
    """Repeat some work for a while; gives how much of it is done in a second."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not done:
        done += work()
    return done / elapsed
