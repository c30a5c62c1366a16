"""Embed a cohort into a store, or go on with one that is there."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from aml_mil.cohort import Cohort, Patient, keep_cell_types
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.errors import DamagedCellError, EmbedError, PatientsFailedError
from aml_mil.embedding.records import EmbedProgress, EmbedSummary
from aml_mil.embedding.shares import own_share
from aml_mil.embedding.stain import settle_reference
from aml_mil.embedding.store_job import StoreJob
from aml_mil.embedding.stream import run_passes
from aml_mil.encoders import Encoder

MAX_NAMED = 5


def embed(
    cohort: Cohort, encoder: Encoder, store_path: str | Path, config: EmbedConfig | None = None
) -> "EmbedRun":
    """Prepare to turn a cohort into features.

    Args:
        cohort: Patients and their cells.
        encoder: Frozen; left as it is.
        store_path: A .zarr or .h5store folder, new or begun earlier by an equal encoder.
        config: Settings.

    Returns:
        The run: iterate over it to do the work, then read its ``summary``.
    """
    return EmbedRun(cohort, {Path(store_path): encoder}, config or EmbedConfig())


def embed_by_several(
    cohort: Cohort, encoders: Mapping[Path, Encoder], config: EmbedConfig | None = None
) -> "EmbedRun":
    """Prepare to turn a cohort into the features of several encoders; every cell is decoded once.

    Args:
        cohort: Patients and their cells.
        encoders: By the path of the store each fills; each store is resumed on its own.
        config: Settings of all.

    Returns:
        The run: iterate over it to do the work, then read its ``summaries``.

    Raises:
        EmbedError: The encoders see images of different sizes.
    """
    sizes = {encoder.image_size_px for encoder in encoders.values()}
    if len(sizes) > 1:
        named = ", ".join(f"{path.name} {e.image_size_px} px" for path, e in encoders.items())
        message = (
            f"expected encoders that see images of one size, got {named}; give all one size "
            "(--image-size), or embed by each on its own"
        )
        raise EmbedError(message)
    return EmbedRun(cohort, encoders, config or EmbedConfig())


class EmbedRun:
    """One run: first the patients that are missing, then a look at those that are there.

    Iterating does the work and yields progress. At the end `summary` is there, also when the
    iteration ends with `PatientsFailedError`. Among processes that torch.distributed has joined,
    each takes whole patients, and the first sums up for all.
    """

    def __init__(
        self, cohort: Cohort, encoders: Mapping[Path, Encoder], config: EmbedConfig
    ) -> None:
        if config.cell_types:
            cohort = keep_cell_types(cohort, config.cell_types)
        self._cohort = cohort
        self._config = config
        self._workers = config.num_workers
        self._image_size_px = next(iter(encoders.values())).image_size_px
        self._store_paths = tuple(encoders)
        self._jobs = [
            StoreJob(cohort, encoder, path, config, workers=self._workers)
            for path, encoder in encoders.items()
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was joined, filtered, or did not join in the cohort as it is embedded."""
        return self._cohort.notes

    @property
    def summaries(self) -> tuple[EmbedSummary, ...]:
        """What was done about each store, by all processes together.

        Raises:
            RuntimeError: The run has not come to its end, or this is not its first process.
        """
        found = tuple(job.summary for job in self._jobs if job.summary is not None)
        if len(found) < len(self._jobs):
            message = (
                "the run is not finished; iterate over it to the end first, and ask the first "
                "of its processes"
            )
            raise RuntimeError(message)
        return found

    @property
    def summary(self) -> EmbedSummary:
        """What was done about the only store; see `summaries`."""
        (only,) = self.summaries
        return only

    def __iter__(self) -> Iterator[EmbedProgress]:
        """Do the work.

        Raises:
            StoreMismatchError: A store was made with another encoder, view list, dtype or
                preprocessing.
            NumericsMismatchError: A store was begun with another arithmetic.
            EngineError: The engine asked for cannot run an encoder.
            DamagedCellError: A file is damaged, and the run is strict.
            PatientsFailedError: Patients could not be embedded; raised after all others were, in
                the first process.
            EmbedError: Another process of the run has ended early, or there is no one colour to
                bring the patients to.
        """
        started = time.perf_counter()
        reference = settle_reference(
            self._config,
            self._cohort,
            self._store_paths,
            image_size_px=self._image_size_px,
            workers=self._workers,
        )
        with ExitStack() as stack:
            for job in self._jobs:
                stack.enter_context(job.open(reference=reference))
            mine = own_share(self._missing(), work_of=self._work_of)
            yield from run_passes(
                [job.embedding_pass(mine) for job in self._jobs],
                phase="embed",
                image_size_px=self._image_size_px,
                workers=self._workers,
                reference=reference,
            )
            for job in self._jobs:
                yield from job.follow_up(started=started)
        for job in self._jobs:
            if job.summary is not None:
                self._refuse(job.summary)

    def _missing(self) -> list[Patient]:
        missing = frozenset().union(*(job.missing for job in self._jobs))
        return [patient for patient in self._cohort.patients if patient.patient_id in missing]

    def _work_of(self, patient: Patient) -> int:
        return len(patient.cells) * sum(patient.patient_id in job.missing for job in self._jobs)

    def _refuse(self, summary: EmbedSummary) -> None:
        """Raise what is wrong with a run that has come to its end."""
        if summary.failed:
            names = "; ".join(str(patient) for patient in summary.failed[:MAX_NAMED])
            num_failed, total = len(summary.failed), len(self._cohort.patients)
            others = f"; all others are in {summary.store_path.name}" if num_failed < total else ""
            message = (
                f"patients that could not be embedded: {names} ({num_failed} of {total}){others}: "
                "repair these, or take them out of the cohort, and run again"
            )
            raise PatientsFailedError(message)
        if self._config.strict and summary.quarantined:
            message = (
                f"the store was begun with damaged files set aside, the first is "
                f"{summary.quarantined[0]} ({len(summary.quarantined)}); repair them and use "
                "--refresh, or leave out --strict"
            )
            raise DamagedCellError(message)
