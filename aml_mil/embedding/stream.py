"""One stream of decoded cells for all the stores that are filled from it."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from aml_mil.cohort import Patient
from aml_mil.embedding.cells import LoadedCell, load_cells
from aml_mil.embedding.encode import EncodingPass
from aml_mil.embedding.records import EmbedProgress, Phase
from aml_mil.embedding.stain import Colour, load_normalised


def run_passes(
    passes: Sequence[EncodingPass],
    *,
    phase: Phase,
    image_size_px: int,
    workers: int,
    reference: Colour | None,
) -> Iterator[EmbedProgress]:
    """Decode every cell once, and hand it to each pass that wants it.

    Args:
        passes: What to fill; a patient may be in several.
        phase: For the progress.
        image_size_px: Side of every image.
        workers: Threads or processes that read and decode, see `load_cells`.
        reference: Colour that each patient is brought to, for which cells are decoded twice; None
            leaves them as they are.

    Yields:
        The state after every batch; nothing where there are no patients.
    """
    patients = {patient.patient_id: patient for each in passes for patient in each.patients}
    if not patients:
        return
    num_seen = 0
    num_cells = sum(len(patient.cells) for patient in patients.values())

    def progress() -> EmbedProgress:
        return EmbedProgress(
            phase=phase,
            cells_done=num_seen,
            cells_total=num_cells,
            patients_done=sum(each.done.num_patients for each in passes),
            patients_total=sum(len(each.patients) for each in passes),
        )

    lookahead = 2 * max(each.batch_size for each in passes) + workers
    cells = _load(
        list(patients.values()),
        image_size_px=image_size_px,
        workers=workers,
        lookahead=lookahead,
        reference=reference,
    )
    try:
        for each in passes:
            each.begin()
        started = time.perf_counter()
        with closing(cells):
            for loaded in cells:
                num_seen += 1
                is_sent = [each.take(loaded) for each in passes]
                if any(is_sent):
                    yield progress()
        for each in passes:
            each.end()
            each.done.seconds = time.perf_counter() - started
    finally:
        for each in passes:
            each.close()
    yield progress()


def _load(
    patients: Sequence[Patient],
    *,
    image_size_px: int,
    workers: int,
    lookahead: int,
    reference: Colour | None,
) -> Generator[LoadedCell, None, None]:
    if reference is not None:
        return load_normalised(
            patients,
            reference=reference,
            image_size_px=image_size_px,
            workers=workers,
            lookahead=lookahead,
        )

    pairs = ((patient, cell) for patient in patients for cell in patient.cells)
    return load_cells(pairs, image_size_px=image_size_px, workers=workers, lookahead=lookahead)
