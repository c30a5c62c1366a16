"""The cells of patients as they come from their files."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from aml_mil.cohort import Cell, CellFile, Patient, load_file
from aml_mil.embedding.parallel import count_together, map_ahead
from aml_mil.embedding.readers import IS_POSSIBLE, Readers

MAX_THREADS = 4
"""More would wait for each other at the interpreter; from here on processes read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedCell(CellFile):
    """What became of one file, and whose it is.

    Attributes:
        patient: Whose cell it is.
        cell: The file.
    """

    patient: Patient
    cell: Cell


def load_cell(patient: Patient, cell: Cell, *, image_size_px: int) -> LoadedCell:
    """Read and decode one file; what is wrong with it is told, not raised.

    Args:
        patient: Whose cell it is.
        cell: The file.
        image_size_px: Side of the fitted image.

    Returns:
        The image, or why there is none.
    """
    return _name(load_file(cell.path, image_size_px=image_size_px), patient, cell)


def hash_cell(patient: Patient, cell: Cell) -> LoadedCell:
    """Read one file for its SHA-256 alone."""
    return _name(load_file(cell.path, image_size_px=None), patient, cell)


def load_cells(
    pairs: Iterable[tuple[Patient, Cell]], *, image_size_px: int, workers: int, lookahead: int
) -> Generator[LoadedCell, None, None]:
    """Read and decode files in threads, or in processes where there are more than four workers.

    Args:
        pairs: In order; drawn from only as far as ``lookahead`` allows.
        image_size_px: Side of the fitted images.
        workers: Threads or processes.
        lookahead: How many cells may be under way or waiting to be taken.

    Yields:
        Each cell; its image is there until the next is asked for.

    Raises:
        EmbedError: A process has ended.
    """
    if workers <= MAX_THREADS or not IS_POSSIBLE:
        yield from map_ahead(
            lambda pair: load_cell(*pair, image_size_px=image_size_px),
            pairs,
            workers=workers,
            lookahead=lookahead,
        )
        return
    together = count_together(workers=workers, lookahead=lookahead)
    slots = max(lookahead // together, 1)
    source = iter(pairs)
    parts = enumerate(iter(lambda: list(islice(source, together)), []))
    with Readers(workers, slots=slots, cells=together, image_size_px=image_size_px) as readers:

        def read(item: tuple[int, Sequence[tuple[Patient, Cell]]]) -> list[LoadedCell]:
            number, part = item
            # A part that is not taken yet is at most so far behind that its slot is another.
            files = readers.read(number % slots, [cell.path for _, cell in part])
            return [_name(file, *pair) for file, pair in zip(files, part, strict=True)]

        for cells in map_ahead(read, parts, workers=workers, lookahead=slots):
            yield from cells


def _name(file: CellFile, patient: Patient, cell: Cell) -> LoadedCell:
    """Say whose a file is."""
    return LoadedCell(
        patient=patient,
        cell=cell,
        sha256=file.sha256,
        image=file.image,
        colour=file.colour,
        damage=file.damage,
        io_error=file.io_error,
    )
