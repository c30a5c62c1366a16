"""Why a run says what it says about a patient: attention per cell, and each cell on its own.

Shapes: n cells of the patient, C classes, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.mil.head import Head

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOpinion:
    """One cell as the run sees it.

    Attributes:
        instance_id: The cell.
        cell_type: Expert's type; "" where there is none.
        attention: Relative to the patient's average cell, 1 = as much as any other.
        alone: Probability of the class for a patient who had this cell only.
    """

    instance_id: str
    cell_type: str
    attention: float
    alone: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """The cells of one patient, by the heads that applied to the patient.

    Attributes:
        patient_id: The patient.
        classes: C names.
        instance_ids: The n cells.
        cell_types: Expert's types, "" where there is none.
        attention: Over the cells, each class's sums to 1, [n, C].
        alone: Probabilities of each cell as a bag of one, [n, C].
    """

    patient_id: str
    classes: tuple[str, ...]
    instance_ids: tuple[str, ...]
    cell_types: tuple[str, ...]
    attention: FloatArray
    alone: FloatArray

    def most_attended(self, label: str, count: int = 10) -> tuple[CellOpinion, ...]:
        """Return the cells that count most for a class, highest first."""
        return self._ranked(label, count, sign=-1)

    def least_attended(self, label: str, count: int = 10) -> tuple[CellOpinion, ...]:
        """Return the cells that count least for a class, lowest first."""
        return self._ranked(label, count, sign=1)

    @property
    def deconvolution(self) -> dict[str, float]:
        """Share of the cells that, each on its own, are called each class.

        Source:
            Hehr et al. 2023, single-cell prediction, https://doi.org/10.1371/journal.pdig.0000187
        """
        called = np.bincount(self.alone.argmax(axis=1), minlength=len(self.classes))
        return dict(zip(self.classes, (called / len(self.alone)).tolist(), strict=True))

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of a table of all cells, in the order of the store."""
        header = ["patient_id", "instance_id", "cell_type"]
        header += [f"attention_{name}" for name in self.classes]
        header += [f"alone_{name}" for name in self.classes]
        relative = self.attention * len(self.attention)
        rows = [
            [self.patient_id, cell, self.cell_types[i]]
            + [repr(float(x)) for x in (*relative[i], *self.alone[i])]
            for i, cell in enumerate(self.instance_ids)
        ]
        return header, rows

    def _ranked(self, label: str, count: int, *, sign: int) -> tuple[CellOpinion, ...]:
        if label not in self.classes:
            raise EvaluationError(
                f"expected one of the run's classes {', '.join(self.classes)}, got {label!r}"
            )
        column = self.classes.index(label)
        relative = self.attention[:, column] * len(self.attention)
        order = np.argsort(sign * relative, kind="stable")[:count]
        return tuple(
            CellOpinion(
                instance_id=self.instance_ids[i],
                cell_type=self.cell_types[i],
                attention=float(relative[i]),
                alone=float(self.alone[i, column]),
            )
            for i in order
        )


def predict_single_cells(heads: Sequence[Head], features: npt.NDArray[np.floating]) -> FloatArray:
    """Predict every cell as a bag of one, averaged over heads.

    Args:
        heads: To be averaged.
        features: [n, D].

    Returns:
        Probabilities, [n, C].
    """
    total = np.zeros(())
    with torch.no_grad():
        for head in heads:
            cells = torch.from_numpy(np.ascontiguousarray(features)).to(_dtype(head))
            logits = torch.vmap(partial(_predict_alone, head))(cells)
            total = total + logits.double().softmax(dim=1).numpy()
    averaged: FloatArray = total / len(heads)
    return averaged


def _predict_alone(head: Head, cell: Tensor) -> Tensor:
    """Apply a head to a bag of one cell, [D] → [C]."""
    logits: Tensor = head(cell.unsqueeze(0)).logits
    return logits


def _dtype(head: Head) -> torch.dtype:
    return next(head.parameters()).dtype
