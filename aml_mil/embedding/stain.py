"""Stain normalisation: each patient's colour is brought to one reference before encoding.

A patient's own colour is measured over all its readable cells, so cells are decoded twice. The
reference is settled once, by the run that begins a store, and stands in the store's preprocessing.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from aml_mil.cohort import Cell, Cohort, Patient
from aml_mil.embedding.cells import MAX_THREADS, LoadedCell, load_cell
from aml_mil.embedding.colour import FloatArray, match_colour, pool_colours
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.errors import EmbedError
from aml_mil.embedding.parallel import map_ahead
from aml_mil.embedding.shares import tell_all
from aml_mil.ranks import rank
from stores import JSON, open_store, store_exists

Item = TypeVar("Item")
Colour = tuple[float, ...]  # mean of R, G, B and their standard deviation, on the scale 0 to 255

STAIN = "stain"  # the rule's name in the preprocessing of a manifest
RULE = (
    "mean and s.d. of R, G, B over all pixels of a patient's readable cells brought to the "
    "reference, channel by channel, after the resizing"
)
# What the reference is drawn from: about a second of decoding for 200 patients.
MAX_PATIENTS = 1000
CELLS_EACH = 20
DECIMALS = 2
MEASURED_AHEAD = 1024  # cells; only their colour is kept


def describe_stain(reference: Colour) -> dict[str, JSON]:
    """Say how stains are normalised, as a store records it."""
    return {"rule": RULE, "reference": list(reference)}


def recorded_reference(preprocessing: Mapping[str, JSON]) -> Colour | None:
    """Return the reference that a store's images were brought to; None where they were not.

    Raises:
        EmbedError: What is recorded is no colour.
    """
    stain = preprocessing.get(STAIN)
    if stain is None:
        return None
    try:
        values = tuple(stain["reference"])  # type: ignore[call-overload,index,arg-type]
        return EmbedConfig(stain="patient", stain_reference=values).stain_reference
    except (LookupError, TypeError, ValueError) as error:
        message = f"expected a stain's reference in the preprocessing, got {stain!r:.80}: {error}"
        raise EmbedError(message) from error


def settle_reference(
    config: EmbedConfig,
    cohort: Cohort,
    store_paths: Sequence[Path],
    *,
    image_size_px: int,
    workers: int,
) -> Colour | None:
    """Settle the reference of a run, the same in all its processes.

    The one asked for; else the one that a store of the run records; else the mean over the patients
    of the cohort.

    Args:
        config: Says what was asked for.
        cohort: Patients and their cells.
        store_paths: Of the stores of the run, begun or not.
        image_size_px: Side of the images.
        workers: Threads that read and decode.

    Returns:
        The reference; None where stains are left as they are.

    Raises:
        EmbedError: Two stores record different references, or no image drawn is readable.
    """
    if config.stain == "none":
        return None
    if config.stain_reference is not None:
        return config.stain_reference
    found = None
    if rank() == 0:
        found = _read_reference(store_paths) or draw_reference(
            cohort, image_size_px=image_size_px, workers=workers
        )
    return tell_all(found)


def draw_reference(cohort: Cohort, *, image_size_px: int, workers: int) -> Colour:
    """Average the colours of a cohort's patients, each by some of its cells.

    Args:
        cohort: At most `MAX_PATIENTS` of it are taken, and `CELLS_EACH` cells of each, evenly
            spread.
        image_size_px: Side of the images.
        workers: Threads that read and decode.

    Returns:
        Mean over the patients, to two decimals.

    Raises:
        EmbedError: None of the images is readable.
    """
    patients = [
        replace(patient, cells=tuple(_spread(patient.cells, CELLS_EACH)))
        for patient in _spread(cohort.patients, MAX_PATIENTS)
    ]
    own = measure_patients(patients, image_size_px=image_size_px, workers=workers)
    colours = [colour for colour in own if colour is not None]
    if not colours:
        message = (
            "--stain patient measures the colour of the cohort, and none of the images drawn for "
            "it is readable; repair them, or name a reference (--stain-reference)"
        )
        raise EmbedError(message)
    return tuple(round(float(value), DECIMALS) for value in np.mean(colours, axis=0))


def measure_patients(
    patients: Sequence[Patient], *, image_size_px: int, workers: int
) -> Iterator[FloatArray | None]:
    """Measure the colour of patients over all pixels of their readable cells.

    Yields:
        Mean and s.d. of R, G, B, [6], for each patient; None where no cell is readable.
    """
    with closing(_measure(patients, image_size_px=image_size_px, workers=workers)) as cells:
        for patient in patients:
            yield _pool(list(islice(cells, len(patient.cells))))


def load_normalised(
    patients: Sequence[Patient],
    *,
    reference: Colour,
    image_size_px: int,
    workers: int,
    lookahead: int,
) -> Generator[LoadedCell, None, None]:
    """Load the cells of patients in their order, each patient's colour brought to the reference.

    Args:
        patients: Whose cells.
        reference: Colour to reach.
        image_size_px: Side of the images.
        workers: Threads that measure, and threads that load; four of each at most.
        lookahead: How many images may be under way or waiting to be taken.

    Yields:
        Each file; its image is normalised, its colour is that of the image as it was. A file that
        changes between the two times it is read counts as one that cannot be read.
    """
    wanted = np.array(reference)

    def load(item: tuple[LoadedCell, FloatArray | None]) -> LoadedCell:
        before, own = item
        loaded = load_cell(before.patient, before.cell, image_size_px=image_size_px)
        if loaded.sha256 != before.sha256:
            return LoadedCell(
                patient=before.patient, cell=before.cell, io_error="it changed while it was read"
            )
        if loaded.image is None or own is None:
            return loaded
        return replace(loaded, image=match_colour(loaded.image, own, wanted))

    def with_colours() -> Iterator[tuple[LoadedCell, FloatArray | None]]:
        for patient in patients:
            cells = list(islice(measured, len(patient.cells)))
            own = _pool(cells)
            yield from ((cell, own) for cell in cells)

    with closing(_measure(patients, image_size_px=image_size_px, workers=workers)) as measured:
        yield from map_ahead(
            load, with_colours(), workers=min(workers, MAX_THREADS), lookahead=lookahead
        )


def _measure(
    patients: Sequence[Patient], *, image_size_px: int, workers: int
) -> Generator[LoadedCell, None, None]:
    def measure(item: tuple[Patient, Cell]) -> LoadedCell:
        return replace(load_cell(*item, image_size_px=image_size_px), image=None)

    pairs = ((patient, cell) for patient in patients for cell in patient.cells)
    return map_ahead(measure, pairs, workers=min(workers, MAX_THREADS), lookahead=MEASURED_AHEAD)


def _pool(cells: Sequence[LoadedCell]) -> FloatArray | None:
    colours = [cell.colour for cell in cells if cell.colour is not None]
    return pool_colours(np.stack(colours)) if colours else None


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """Take at most so many, evenly spread over all."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]


def _read_reference(store_paths: Sequence[Path]) -> Colour | None:
    recorded: dict[Colour, str] = {}
    for path in store_paths:
        if store_exists(path):
            with open_store(path) as store:
                found = recorded_reference(store.manifest.preprocessing)
            if found is not None:
                recorded.setdefault(found, path.name)
    if len(recorded) > 1:
        named = "; ".join(f"{name}: {_show(found)}" for found, name in recorded.items())
        message = (
            f"expected stores of one stain reference, got {named}; embed by each encoder on its own"
        )
        raise EmbedError(message)
    return next(iter(recorded), None)


def _show(reference: Colour) -> str:
    return ",".join(f"{value:g}" for value in reference)
