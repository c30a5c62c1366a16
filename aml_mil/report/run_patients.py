"""The patients of a run as the report shows them, and their cells for the map, read in one pass.

Shapes: n cells of a patient, C classes, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.explain import Explanation, predict_single_cells
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.run import OpenRun
from aml_mil.mil.head import Head
from aml_mil.report.cells import (
    GALLERY_SIDE_PX,
    Gallery,
    ProbabilityRow,
    galleries,
    probability_rows,
)
from aml_mil.report.thumbnails import Thumbnails
from stores import FeatureStore, QuarantinedFile

GALLERY_CELLS = 8
# Pictures in all galleries: about 12 MB.
MAX_GALLERY_CELLS = 6000
MAX_MAP_CELLS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientPage:
    """One patient, as predicted by heads that never saw it.

    Attributes:
        number: Place in the report, from 1.
        patient_id: The patient.
        label: True class.
        predicted: Most probable class.
        certainty: Probability of the true class.
        fold: In which it was tested.
        probabilities: By class, with every head's.
        num_cells: Cells.
        galleries: Most attended cells by class; none where the store is gone or the bound reached.
        alone: Share of the cells that, each on its own, are called each class, in percent.
        quarantined: Damaged files.
    """

    number: int
    patient_id: str
    label: str
    predicted: str
    certainty: float
    fold: int
    probabilities: tuple[ProbabilityRow, ...]
    num_cells: int
    galleries: tuple[Gallery, ...] = ()
    alone: Mapping[str, float] | None = None
    quarantined: tuple[QuarantinedFile, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether another class is more probable than the true one."""
        return self.predicted != self.label


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledCells:
    """Cells of one patient that were drawn for the map.

    Attributes:
        features: [n, D].
        names: Ids of the cells.
        cell_types: Expert's types, "" where there is none.
        attention: For the true class, relative to the patient's average cell, [n].
    """

    features: npt.NDArray[np.float32]
    names: tuple[str, ...]
    cell_types: tuple[str, ...]
    attention: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientRead:
    """A patient's page, and what the rest of the report needs of the patient's cells."""

    page: PatientPage
    cell_types: tuple[str, ...]
    sampled: SampledCells | None


def wrong_first(scores: PatientScores) -> list[int]:
    """Order patients: wrong predictions first, then the least probability of the true class."""
    rows = np.arange(len(scores.patient_ids))
    certainty = scores.averaged[rows, scores.targets]
    is_wrong = scores.averaged.argmax(axis=1) != scores.targets
    order: list[int] = np.lexsort((certainty, ~is_wrong)).tolist()
    return order


class PatientReader:
    """Reads the patients of a run, wrong predictions first, then the least certain.

    Args:
        run: The run.
        thumbnails: Pictures of the cells.
        seed: Of the draw of cells for the map.
    """

    def __init__(self, run: OpenRun, thumbnails: Thumbnails, *, seed: int) -> None:
        self._run, self._thumbnails = run, thumbnails
        self._heads: dict[int, list[Head]] = {}
        self._stores: dict[int, FeatureStore] = {}
        self._num_shown = 0
        self.order = wrong_first(run.scores)
        self._drawn = _draw_cells(run, seed=seed)
        self.store_missing = ""

    def __iter__(self) -> Iterator[PatientRead]:
        with ExitStack() as opened:
            try:
                for fold in self._run.scores.fold_rows:
                    self._stores[fold] = opened.enter_context(self._run.store(fold))
            except EvaluationError as error:
                self.store_missing = str(error)
                self._stores = {}
            for number, row in enumerate(self.order, 1):
                yield self._read(number, row)

    @property
    def num_with_galleries(self) -> int:
        """How many patients have a gallery so far."""
        return self._num_shown

    def _read(self, number: int, row: int) -> PatientRead:
        scores = self._run.scores
        patient_id, fold = scores.patient_ids[row], int(scores.folds[row])
        by_head = scores.probabilities[:, row]
        target = int(scores.targets[row])
        attention = self._run.attention.of_patient(patient_id)
        facts: dict[str, Any] = {
            "number": number,
            "patient_id": patient_id,
            "label": scores.classes[target],
            "predicted": scores.classes[int(by_head.mean(axis=0).argmax())],
            "certainty": float(by_head.mean(axis=0)[target]),
            "fold": fold,
            "probabilities": probability_rows(scores.classes, by_head),
            "num_cells": len(attention),
        }
        if fold not in self._stores:
            return PatientRead(page=PatientPage(**facts), cell_types=(), sampled=None)
        store = self._stores[fold]
        bag = store.read(patient_id)
        if len(bag.features) != len(attention):
            raise EvaluationError(
                f"the run knows {len(attention)} cells of patient {patient_id}, {store.path} "
                f"{len(bag.features)}; use the store that the run was fitted on"
            )
        types = bag.instance_labels or ("",) * len(attention)
        alone = Explanation(
            patient_id=patient_id,
            classes=scores.classes,
            instance_ids=bag.instance_ids,
            cell_types=types,
            attention=attention,
            alone=predict_single_cells(self._heads_of(fold), bag.features),
        ).deconvolution
        page = PatientPage(
            **facts,
            galleries=self._galleries(patient_id, attention, bag.instance_ids, types),
            alone={label: 100 * share for label, share in alone.items()},
            quarantined=bag.quarantined,
        )
        drawn = np.array(self._drawn.get(patient_id, ()), dtype=np.int64)
        flat = bag.features.reshape(len(bag.features), -1)
        sampled = SampledCells(
            features=flat[drawn].astype(np.float32),
            names=tuple(bag.instance_ids[i] for i in drawn),
            cell_types=tuple(types[i] for i in drawn),
            attention=attention[drawn, target] * len(attention),
        )
        return PatientRead(page=page, cell_types=types, sampled=sampled)

    def _galleries(
        self,
        patient_id: str,
        attention: npt.NDArray[np.float64],
        names: Sequence[str],
        types: Sequence[str],
    ) -> tuple[Gallery, ...]:
        classes = self._run.classes
        if (self._num_shown + 1) * GALLERY_CELLS * len(classes) > MAX_GALLERY_CELLS:
            return ()
        self._num_shown += 1
        return galleries(
            classes,
            attention,
            instance_ids=names,
            cell_types=types,
            picture=lambda name: self._thumbnails.picture(
                patient_id, name, side_px=GALLERY_SIDE_PX
            ),
            count=GALLERY_CELLS,
        )

    def _heads_of(self, fold: int) -> list[Head]:
        if fold not in self._heads:
            seeds = self._run.scores.seeds
            self._heads[fold] = [self._run.run.head(fold, seed) for seed in seeds]
        return self._heads[fold]


def _draw_cells(run: OpenRun, *, seed: int) -> dict[str, list[int]]:
    """Draw cells for the map, by patient.

    Of all patients where one encoder made all features; else of those that the first fold tests.
    """
    attention = run.attention
    owners = np.repeat(np.arange(len(attention.patient_ids)), np.diff(attention.offsets))
    if len(run.run.document["stores"]) > 1:
        tested = {run.scores.patient_ids[row] for row in run.scores.fold_rows[0]}
        chosen = np.array([p in tested for p in attention.patient_ids])[owners]
    else:
        chosen = np.ones(len(owners), dtype=bool)
    cells = np.flatnonzero(chosen)
    if len(cells) > MAX_MAP_CELLS:
        rng = np.random.default_rng(seed)
        cells = np.sort(rng.choice(cells, MAX_MAP_CELLS, replace=False))
    drawn: dict[str, list[int]] = {}
    for cell in cells.tolist():
        owner = int(owners[cell])
        first = int(attention.offsets[owner])
        drawn.setdefault(attention.patient_ids[owner], []).append(cell - first)
    return drawn
