"""Embed a cohort into a store, or go on with one that is there."""

import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.cohort import DECODE_RULE, RESIZE_RULE, Cohort, Patient
from aml_mil.embedding.check import CheckingPass
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.encode import EncodingPass
from aml_mil.embedding.engines import Engine, build_engine
from aml_mil.embedding.errors import (
    DamagedCellError,
    EmbedError,
    EngineError,
    PatientsFailedError,
)
from aml_mil.embedding.numerics import Numerics, choose_numerics, follow_numerics
from aml_mil.embedding.precision import PrecisionPass
from aml_mil.embedding.records import (
    EmbedProgress,
    EmbedSummary,
    Phase,
    QuarantinedCell,
)
from aml_mil.embedding.shared_views import SHARED_VIEWS, describe_shared_views
from aml_mil.embedding.summary import summarise
from aml_mil.embedding.view_encoder import ViewEncoder
from aml_mil.embedding.views import has_shared_views, view_names
from aml_mil.encoders import Encoder
from aml_mil.runtime import count_cores, describe_device
from stores import JSON, FeatureStore, Manifest, open_or_create_store

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
    return EmbedRun(cohort, encoder, Path(store_path), config or EmbedConfig())


class EmbedRun:
    """One run: first the patients that are missing, then a look at those that are there.

    Iterating does the work and yields progress. At the end `summary` is there, also when the
    iteration ends with `PatientsFailedError`.
    """

    def __init__(
        self, cohort: Cohort, encoder: Encoder, store_path: Path, config: EmbedConfig
    ) -> None:
        self._cohort = cohort
        self._encoder = encoder
        self._store_path = store_path
        self._config = config
        self._workers = config.workers or count_cores()
        self._views = view_names(config.views)
        num_encodings = cohort.num_cells * len(self._views)
        self._chosen = choose_numerics(config, encoder, num_encodings=num_encodings)
        self._view_encoder: ViewEncoder | None = None
        self._engine_note = ""
        self._summary: EmbedSummary | None = None

    @property
    def summary(self) -> EmbedSummary:
        """What was done.

        Raises:
            RuntimeError: The run has not come to its end.
        """
        if self._summary is None:
            message = "the run is not finished; iterate over it to the end first"
            raise RuntimeError(message)
        return self._summary

    def __iter__(self) -> Iterator[EmbedProgress]:
        """Do the work.

        Raises:
            StoreMismatchError: The store was made with another encoder, view list, dtype or
                preprocessing.
            NumericsMismatchError: The store was begun with another arithmetic.
            EngineError: The engine asked for cannot run the encoder.
            DamagedCellError: A file is damaged, and the run is strict.
            PatientsFailedError: Patients could not be embedded; raised after all others were.
        """
        if not self._store_path.exists():
            self._try_engine()
        with self._open() as store:
            numerics = follow_numerics(
                self._chosen, store.manifest.numerics, config=self._config, encoder=self._encoder
            )
            if numerics != self._chosen:
                self._view_encoder = None  # another process was first to begin the store
            yield from self._fill(store, numerics)
        if self.summary.failed:
            raise PatientsFailedError(self._name_failed())
        self._refuse_quarantined(self.summary.quarantined)

    def _fill(self, store: FeatureStore, numerics: Numerics) -> Iterator[EmbedProgress]:
        started = time.perf_counter()
        present = set(store.bag_ids)
        patients = self._cohort.patients
        missing = [patient for patient in patients if patient.patient_id not in present]
        there = [patient for patient in patients if patient.patient_id in present]
        self._log_start(store, numerics, num_missing=len(missing), num_present=len(there))

        embedding = self._pass(missing, "embed", store, numerics)
        yield from embedding
        checking = CheckingPass(there, store=store, workers=self._workers)
        yield from checking

        vanished = sorted(present - {patient.patient_id for patient in patients})
        dropped = vanished if self._config.drop_vanished else []
        for bag_id in dropped:
            store.delete(bag_id)
            store.log({"event": "dropped", "bag_id": bag_id})

        changed = {change.patient_id for change in checking.changed}
        stale = [p for p in there if p.patient_id in changed and self._config.refresh]
        refreshing = self._pass(stale, "refresh", store, numerics)
        yield from refreshing

        comparing = self._compare(store, numerics, unfit=changed - refreshing.committed.keys())
        yield from comparing

        self._summary = summarise(
            self._cohort,
            store,
            embedding=embedding,
            checking=checking,
            refreshing=refreshing,
            numerics=numerics,
            precision=comparing.result,
            vanished=[] if dropped else vanished,
            dropped=dropped,
            seconds=time.perf_counter() - started,
        )

    def _try_engine(self) -> None:
        """Build the engine before a new store records it; auto takes torch where that fails."""
        if self._chosen.engine == "torch":
            return
        try:
            self._view_encoder = self._build(self._chosen)
        except EngineError as error:
            if self._config.engine != "auto":
                raise
            self._engine_note = str(error)
            self._chosen = choose_numerics(replace(self._config, engine="torch"), self._encoder)

    def _build(self, numerics: Numerics) -> ViewEncoder:
        def build(views: tuple[str, ...]) -> Engine:
            return build_engine(
                numerics.engine,
                self._encoder,
                device=numerics.device,
                precision=numerics.precision,
                views=views,
                threads=numerics.threads,
            )

        size_px = self._encoder.image_size_px
        return ViewEncoder(build, views=self._views, image_size_px=size_px)

    def _compare(
        self, store: FeatureStore, numerics: Numerics, *, unfit: Set[str]
    ) -> PrecisionPass:
        comparable = set(store.bag_ids) - unfit
        return PrecisionPass(
            [p for p in self._cohort.patients if p.patient_id in comparable],
            store=store,
            encoder=self._encoder,
            device=numerics.device,
            num_cells=self._config.check_precision or 0,
        )

    def _pass(
        self,
        patients: Sequence[Patient],
        phase: Phase,
        store: FeatureStore,
        numerics: Numerics,
    ) -> EncodingPass:
        def encode(images: NDArray[np.uint8], owners: Sequence[str]) -> NDArray[np.float32]:
            if self._view_encoder is None:  # a finished store needs none
                self._view_encoder = self._build(numerics)
            return self._view_encoder.encode(images, owners)

        return EncodingPass(
            patients,
            phase=phase,
            encode=encode,
            batch_size=numerics.batch_size,
            image_size_px=self._encoder.image_size_px,
            workers=self._workers,
            strict=self._config.strict,
            commit=store.replace if phase == "refresh" else store.write,
            log=store.log,
        )

    def _refuse_quarantined(self, quarantined: Sequence[QuarantinedCell]) -> None:
        if self._config.strict and quarantined:
            message = (
                f"the store was begun with damaged files set aside, the first is {quarantined[0]} "
                f"({len(quarantined)}); repair them and use --refresh, or leave out --strict"
            )
            raise DamagedCellError(message)

    def _name_failed(self) -> str:
        failed = self.summary.failed
        names = "; ".join(str(patient) for patient in failed[:MAX_NAMED])
        return (
            f"patients that could not be embedded: {names} "
            f"({len(failed)} of {len(self._cohort.patients)}); all others are in the store: "
            "repair these, or take them out of the cohort, and run again"
        )

    def _log_start(
        self, store: FeatureStore, numerics: Numerics, *, num_missing: int, num_present: int
    ) -> None:
        store.log(
            {
                "event": "run_start",
                "encoder": self._encoder.name,
                "weights": self._encoder.weights,
                "numerics": numerics.record,
                **({"engine_note": self._engine_note} if self._engine_note else {}),
                "device": describe_device(numerics.device),
                "threads": torch.get_num_threads(),
                "workers": self._workers,
                "patients_missing": num_missing,
                "patients_present": num_present,
            }
        )

    def _open(self) -> FeatureStore:
        encoder = self._encoder
        rules: dict[str, JSON] = {"decode": DECODE_RULE, "resize": RESIZE_RULE}
        if has_shared_views(self._views):
            rules[SHARED_VIEWS] = describe_shared_views(encoder.image_size_px)
        manifest = Manifest(
            encoder=encoder.name,
            architecture=encoder.architecture,
            weights=encoder.weights,
            weights_sha256=encoder.weights_sha256,
            preprocessing={**encoder.preprocessing, **rules},
            numerics=self._chosen.record,
            views=self._views,
            feature_shape=encoder.feature_shape,
            dtype=self._config.dtype,
            trained_on=encoder.trained_on,
        )
        try:
            return open_or_create_store(self._store_path, manifest)
        except ValueError as error:
            raise EmbedError(str(error)) from error
