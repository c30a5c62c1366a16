"""What a run does about one store: its arithmetic, its engine, its passes, its summary."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.cohort import DECODE_RULE, RESIZE_RULE, Cohort, Patient
from aml_mil.cohort.errors import name_some
from aml_mil.embedding.building import build_engine
from aml_mil.embedding.calibration import (
    Calibration,
    draw_calibration,
    find_calibration,
    normalise_calibration,
)
from aml_mil.embedding.check import CheckingPass
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.encode import EncodingPass
from aml_mil.embedding.engines import Engine, can_fall_back
from aml_mil.embedding.errors import EmbedError, EngineError, NumericsMismatchError
from aml_mil.embedding.numerics import choose_numerics, follow_numerics
from aml_mil.embedding.openvino_engine import OpenVinoEngine
from aml_mil.embedding.outcome import Outcome, combine
from aml_mil.embedding.precision import PrecisionPass
from aml_mil.embedding.preprocessing import describe_preparation
from aml_mil.embedding.records import EmbedProgress, EmbedSummary
from aml_mil.embedding.shared_views import SHARED_VIEWS, describe_shared_views
from aml_mil.embedding.shares import gather, own_share, tell_all
from aml_mil.embedding.stain import Colour
from aml_mil.embedding.stream import run_passes
from aml_mil.embedding.summary import summarise
from aml_mil.embedding.view_encoder import ViewEncoder
from aml_mil.embedding.views import shared_kind, view_names
from aml_mil.encoders import Encoder
from aml_mil.ranks import num_ranks, rank
from aml_mil.runtime import describe_device
from stores import JSON, FeatureStore, Manifest, open_or_create_store, store_exists


class StoreJob:
    """One store to fill: `open` it, run what `embedding_pass` gives, then `follow_up`.

    Args:
        cohort: Patients and their cells.
        encoder: Frozen; left as it is.
        store_path: Of the store, new or begun earlier by an equal encoder.
        config: Settings.
        workers: Threads that read and decode.

    Attributes:
        missing: Ids of the patients without a bag; there once the store is open.
        summary: What was done; None before the end, and in all processes but the first.
    """

    def __init__(
        self,
        cohort: Cohort,
        encoder: Encoder,
        store_path: Path,
        config: EmbedConfig,
        *,
        workers: int,
    ) -> None:
        self.missing: frozenset[str] = frozenset()
        self.summary: EmbedSummary | None = None
        self._cohort = cohort
        self._encoder = encoder
        self._store_path = store_path
        self._config = config
        self._workers = workers
        self._views = view_names(config.views)
        num_encodings = cohort.num_cells * len(self._views)
        self._numerics = choose_numerics(config, encoder, num_encodings=num_encodings)
        self._view_encoder: ViewEncoder | None = None
        self._engine_note = ""
        self._reference: Colour | None = None
        self._present: frozenset[str] = frozenset()

    def open(self, *, reference: Colour | None) -> FeatureStore:
        """Open or create the store, follow its arithmetic, and see who is missing.

        Args:
            reference: Colour that each patient is brought to; None leaves them as they are.

        Raises:
            StoreMismatchError: It was made with another encoder, view list, dtype or preprocessing.
            NumericsMismatchError: It was begun with another arithmetic.
            EngineError: The engine asked for cannot run the encoder.
        """
        self._reference = reference
        if not store_exists(self._store_path):
            self._try_engine()
        self._store = self._open()
        numerics = follow_numerics(
            self._numerics,
            self._store.manifest.numerics,
            config=self._config,
            encoder=self._encoder,
        )
        if numerics != self._numerics:
            self._view_encoder = None  # another process was first to begin the store
        self._numerics = numerics
        self._present = tell_all(frozenset(self._store.bag_ids))
        ids = {patient.patient_id for patient in self._cohort.patients}
        if self._present and not ids & self._present:
            raise EmbedError(
                f"{self._store_path} holds {len(self._present)} patients, none of them in this "
                f"cohort ({name_some(sorted(ids))}): is it the store of another cohort? Name "
                "another, and join the two with store merge if that is what you want"
            )
        self.missing = frozenset(ids - self._present)
        self._log_start(num_missing=len(self.missing), num_present=len(ids & self._present))
        return self._store

    def embedding_pass(self, patients: Sequence[Patient]) -> EncodingPass:
        """Make the pass over those of some patients that are missing."""
        mine = [patient for patient in patients if patient.patient_id in self.missing]
        self._embedding = self._pass(mine, is_refresh=False)
        return self._embedding

    def follow_up(self, *, started: float) -> Iterator[EmbedProgress]:
        """Check the bags that were there, refresh and drop what was asked for, and sum up.

        Args:
            started: When the run began, by the performance counter.
        """
        for record in self._follow_up(started=started):
            yield replace(record, store=self._store_path.name)

    def _follow_up(self, *, started: float) -> Iterator[EmbedProgress]:
        there = [p for p in self._cohort.patients if p.patient_id in self._present]
        checking = CheckingPass(own_share(there), store=self._store, workers=self._workers)
        yield from checking
        changed = {change.patient_id for change in checking.done.changed}
        stale = [p for p in there if p.patient_id in changed and self._config.refresh]
        refreshing = self._pass(stale, is_refresh=True)
        yield from run_passes(
            [refreshing],
            phase="refresh",
            image_size_px=self._encoder.image_size_px,
            workers=self._workers,
            reference=self._reference,
        )
        outcomes = gather(
            Outcome(embedded=self._embedding.done, checked=checking.done, refreshed=refreshing.done)
        )
        if rank() == 0:
            yield from self._finish(combine(outcomes), started=started)

    def _finish(self, outcome: Outcome, *, started: float) -> Iterator[EmbedProgress]:
        vanished = sorted(self._present - {p.patient_id for p in self._cohort.patients})
        dropped = vanished if self._config.drop_vanished else []
        for bag_id in dropped:
            self._store.delete(bag_id)
            self._store.log({"event": "dropped", "bag_id": bag_id})
        changed = {change.patient_id for change in outcome.checked.changed}
        comparable = set(self._store.bag_ids) - (changed - outcome.refreshed.committed.keys())
        comparing = PrecisionPass(
            [p for p in self._cohort.patients if p.patient_id in comparable],
            store=self._store,
            encoder=self._encoder,
            device=self._numerics.device,
            num_cells=self._config.check_precision or 0,
        )
        yield from comparing
        self.summary = summarise(
            self._cohort,
            self._store,
            outcome,
            numerics=self._numerics,
            precision=comparing.result,
            vanished=[] if dropped else vanished,
            dropped=dropped,
            num_processes=num_ranks(),
            seconds=time.perf_counter() - started,
        )

    def _try_engine(self) -> None:
        """Build the engine before a new store records it; auto takes torch where that fails."""
        if self._numerics.engine == "torch" and not self._numerics.is_compiled:
            return
        try:
            self._view_encoder = self._build()
        except EngineError as error:
            if not can_fall_back(self._config):
                raise
            self._engine_note = str(error)
            self._numerics = choose_numerics(replace(self._config, engine="torch"), self._encoder)

    def _build(self) -> ViewEncoder:
        numerics, size_px = self._numerics, self._encoder.image_size_px
        calibration = self._calibrate() if numerics.precision == "int8" else None

        def build(views: tuple[str, ...]) -> Engine:
            engine = build_engine(
                numerics,
                self._encoder,
                views=views,
                calibration=None if calibration is None else calibration.images,
            )
            if calibration is not None and isinstance(engine, OpenVinoEngine):
                self._pin(calibration.record(engine.graph_sha256))
            return engine

        return ViewEncoder(build, views=self._views, image_size_px=size_px)

    def _calibrate(self) -> Calibration:
        recorded, size_px = self._numerics.calibration, self._encoder.image_size_px
        if recorded is None:
            drawn = draw_calibration(self._cohort, image_size_px=size_px)
        else:
            drawn = find_calibration(self._cohort, recorded, image_size_px=size_px)
        if self._reference is None:
            return drawn
        return normalise_calibration(
            drawn, self._cohort, reference=self._reference, workers=self._workers
        )

    def _pin(self, calibration: Mapping[str, JSON]) -> None:
        """Record the int8 graph of a new store; refuse another than that of one begun earlier."""
        recorded = self._numerics.calibration
        if recorded is None:
            self._numerics = replace(self._numerics, calibration=calibration)
        elif recorded["graph_sha256"] != calibration["graph_sha256"]:
            message = (
                "the cells that the store was calibrated to int8 with give another graph on this "
                "machine; go on where it was begun, or embed the whole cohort into a new store"
            )
            raise NumericsMismatchError(message)

    def _prepare(self) -> int:
        if self._view_encoder is None:  # a finished store needs none
            self._view_encoder = self._build()
        return self._view_encoder.num_at_once

    def _encode(self, images: NDArray[np.uint8], owners: Sequence[str]) -> NDArray[np.float32]:
        assert self._view_encoder is not None
        return self._view_encoder.encode(images, owners)

    def _new_images(self) -> NDArray[np.uint8]:
        """Make memory for a batch, from where a GPU takes it without a copy."""
        size_px = self._encoder.image_size_px
        is_pinned = self._numerics.device.type == "cuda"
        shape = (self._numerics.batch_size, size_px, size_px, 3)
        images: NDArray[np.uint8] = torch.empty(
            shape, dtype=torch.uint8, pin_memory=is_pinned
        ).numpy()
        return images

    def _pass(self, patients: Sequence[Patient], *, is_refresh: bool) -> EncodingPass:
        return EncodingPass(
            patients,
            prepare=self._prepare,
            encode=self._encode,
            new_images=self._new_images,
            batch_size=self._numerics.batch_size,
            dtype=self._config.dtype,
            strict=self._config.strict,
            only_types=bool(self._config.cell_types),
            commit=self._store.replace if is_refresh else self._store.write,
            log=self._store.log,
        )

    def _log_start(self, *, num_missing: int, num_present: int) -> None:
        self._store.log(
            {
                "event": "run_start",
                "encoder": self._encoder.name,
                "weights": self._encoder.weights,
                "numerics": replace(self._numerics, calibration=None).record,
                **({"engine_note": self._engine_note} if self._engine_note else {}),
                "device": describe_device(self._numerics.device),
                "threads": torch.get_num_threads(),
                "workers": self._workers,
                "process": rank(),
                "processes": num_ranks(),
                "patients_missing": num_missing,
                "patients_present": num_present,
            }
        )

    def _open(self) -> FeatureStore:
        encoder = self._encoder
        rules: dict[str, JSON] = {"decode": DECODE_RULE, "resize": RESIZE_RULE}
        rules |= describe_preparation(self._config, self._reference)
        if (kind := shared_kind(self._views)) is not None:
            rules[SHARED_VIEWS] = describe_shared_views(kind, encoder.image_size_px)
        manifest = Manifest(
            encoder=encoder.name,
            architecture=encoder.architecture,
            weights=encoder.weights,
            weights_sha256=encoder.weights_sha256,
            preprocessing={**encoder.preprocessing, **rules},
            numerics=self._numerics.record,
            views=self._views,
            feature_shape=encoder.feature_shape,
            dtype=self._config.dtype,
            trained_on=encoder.trained_on,
        )
        try:
            return open_or_create_store(self._store_path, manifest)
        except ValueError as error:
            raise EmbedError(str(error)) from error
