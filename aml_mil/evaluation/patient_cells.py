"""What heads make of a new patient's cells: attention, files set aside, distance from training.

Shapes: H heads, n cells of the patient, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.ood import TrainingPatients
from aml_mil.mil.head import Head
from stores import Bag, QuarantinedFile

FloatArray = npt.NDArray[np.float64]


class BagReading(NamedTuple):
    """What several heads say about one bag."""

    probabilities: FloatArray
    """By head, [H, C]."""
    attention: FloatArray
    """Over the cells, each class's sums to 1; mean over the heads, [n, C]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientCells:
    """The cells of one patient.

    Attributes:
        instance_ids: The n cells.
        cell_types: Expert's types, "" where there is none.
        attention: Over the cells, each class's sums to 1; mean over all heads, [n, C].
        quarantined: Damaged files that were left out.
        distance: From the training patients, in units of the threshold, the median over the folds;
            None for few cells or unknown training patients.
    """

    instance_ids: tuple[str, ...]
    cell_types: tuple[str, ...]
    attention: FloatArray
    quarantined: tuple[QuarantinedFile, ...]
    distance: float | None

    @property
    def is_far(self) -> bool:
        """Whether the patient is farther than the threshold."""
        return self.distance is not None and self.distance > 1


def read_bag(heads: Sequence[Head], features: npt.NDArray[Any]) -> BagReading:
    """Apply several heads to one bag.

    Args:
        heads: One or more.
        features: [n, D].
    """
    probabilities, attention = [], np.zeros(())
    with torch.no_grad():
        for head in heads:
            dtype = next(head.parameters()).dtype
            logits, scores = head(torch.from_numpy(np.ascontiguousarray(features)).to(dtype))
            probabilities.append(logits.double().softmax(dim=0).numpy())
            attention = attention + scores.double().softmax(dim=0).numpy()
    return BagReading(np.stack(probabilities), attention / len(heads))


class CellTally:
    """Collects what the folds say about one patient's cells.

    Args:
        bag: The patient as the first store has it.
    """

    def __init__(self, bag: Bag) -> None:
        self._bag = bag
        self._attention: list[FloatArray] = []
        self._distances: list[float | None] = []

    def add(
        self, bag: Bag, readings: Mapping[int, BagReading], training: TrainingPatients | None
    ) -> None:
        """Add the folds that read one store.

        Raises:
            EvaluationError: The stores of the folds hold other cells of this patient.
        """
        if bag.instance_ids != self._bag.instance_ids:
            raise EvaluationError(
                f"the stores of the folds hold different cells of patient {bag.bag_id}: "
                f"{len(self._bag.instance_ids)} and {len(bag.instance_ids)}; embed both from the "
                "same images"
            )
        for fold, reading in readings.items():
            self._attention.append(reading.attention)
            if training is not None:
                self._distances.append(training.distance(bag.features, fold=fold))

    @property
    def cells(self) -> PatientCells:
        """What was collected."""
        distances = [distance for distance in self._distances if distance is not None]
        return PatientCells(
            instance_ids=self._bag.instance_ids,
            cell_types=self._bag.instance_labels or ("",) * len(self._bag.instance_ids),
            attention=np.mean(self._attention, axis=0),
            quarantined=self._bag.quarantined,
            distance=median(distances) if distances else None,
        )
