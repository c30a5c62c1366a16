"""How much each cell counted, by heads that never saw its patient.

Shapes: S seeds, N cells of all patients, n cells of one patient, C classes, P patients,
T cell types, B resamples.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from aml_mil.evaluation.bootstrap import Interval, bca_interval, jackknife_influence, resample
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.kinds import Kind, kind_of
from stores.numpy_files import load_npz

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention:
    """A run's attention.

    Attributes:
        patient_ids: P ids.
        offsets: First cell of each patient and, last, N, [P + 1].
        scores: Before the softmax, [S, N, C].
    """

    patient_ids: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float16]

    def of_patient(self, patient_id: str) -> FloatArray:
        """Return the attention of a patient's cells, averaged over the seeds, [n, C].

        Each class's attention sums to 1 over the cells.

        Raises:
            EvaluationError: The run has no such patient.
        """
        if patient_id not in self.patient_ids:
            raise EvaluationError(f"expected a patient of the run, got {patient_id!r}")
        place = self.patient_ids.index(patient_id)
        cells = slice(self.offsets[place], self.offsets[place + 1])
        weights: FloatArray = softmax(self.scores[:, cells].astype(np.float64), axis=1).mean(axis=0)
        return weights


def read_attention(path: Path) -> Attention:
    """Read a run's attention.npz.

    Raises:
        EvaluationError: The file is missing or not as fit-mil writes it.
    """
    try:
        arrays = load_npz(path, ("bag_ids", "offsets", "scores"))
    except (FileNotFoundError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"expected a run's attention in {path}, got {error}") from error
    attention = Attention(
        patient_ids=tuple(arrays["bag_ids"].tolist()),
        offsets=arrays["offsets"],
        scores=arrays["scores"],
    )
    fits = (
        attention.scores.ndim == 3
        and attention.offsets.shape == (len(attention.patient_ids) + 1,)
        and attention.offsets.dtype.kind == "i"
        and attention.offsets[0] == 0
        and attention.offsets[-1] == attention.scores.shape[1]
        and bool((np.diff(attention.offsets) > 0).all())
    )
    if not fits:
        raise EvaluationError(f"{path}: patients, offsets and scores do not fit together")
    return attention


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedCells:
    """The cell types of one patient.

    Attributes:
        label: Class of the patient, as a place among the run's classes.
        cell_types: Of each cell, "" where there is none.
    """

    label: int
    cell_types: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeAttention:
    """Mean attention of one cell type, in units of the patient's average cell.

    Attributes:
        cell_type: Its name.
        kind: Malignant, healthy or other; None where no table knows it.
        attention: Mean over the cells, with the interval over patients.
        num_cells: Annotated cells.
        num_patients: Patients who have any.
    """

    cell_type: str
    kind: Kind | None
    attention: Interval
    num_cells: int
    num_patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionByType:
    """Mean attention by cell type, and of malignant against healthy cells.

    Attributes:
        types: Highest attention first.
        malignant: Of all malignant cells; undefined where there are none.
        healthy: Of all healthy cells.
        gap: Malignant - healthy.
    """

    types: tuple[TypeAttention, ...]
    malignant: Interval
    healthy: Interval
    gap: Interval


def attention_by_type(
    attention: Attention,
    annotated: Mapping[str, AnnotatedCells],
    kinds: Mapping[str, Kind],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> AttentionByType:
    """Average the attention that each cell gets for its patient's own class, by cell type.

    Attention is given relative to the patient's average cell: 1 is what a cell gets where all
    count the same, whatever the number of cells. Intervals are over patients, drawn within class.

    Args:
        attention: Of the run.
        annotated: Types of the cells, by patient; patients without any may be left out.
        kinds: Kind by cell type.
        num_resamples: Draws.
        seed: Of the draws.

    Raises:
        EvaluationError: No cell has a type, or the run and the annotation differ in cells.
    """
    patients = [p for p in attention.patient_ids if p in annotated]
    names = sorted({t for p in patients for t in annotated[p].cell_types if t})
    if not names:
        raise EvaluationError(
            "expected cells with an expert's type, got none; attention by cell type needs "
            "annotations in the cohort that was embedded"
        )
    groups = [[name] for name in names]
    for kind in ("malignant", "healthy"):
        groups.append([name for name in names if kind_of(name, kinds) == kind])
    sums, counts = _sums(attention, annotated, patients, names)
    membership = np.array([[name in group for name in names] for group in groups], dtype=np.float64)
    labels = np.array([annotated[p].label for p in patients])
    intervals = _intervals(
        sums @ membership.T, counts @ membership.T, labels, num_resamples=num_resamples, seed=seed
    )
    types = [
        TypeAttention(
            cell_type=name,
            kind=kind_of(name, kinds),
            attention=intervals[t],
            num_cells=int(counts[:, t].sum()),
            num_patients=int((counts[:, t] > 0).sum()),
        )
        for t, name in enumerate(names)
    ]
    return AttentionByType(
        types=tuple(sorted(types, key=lambda t: -(t.attention.estimate or 0))),
        malignant=intervals[-3],
        healthy=intervals[-2],
        gap=intervals[-1],
    )


def _sums(
    attention: Attention,
    annotated: Mapping[str, AnnotatedCells],
    patients: Sequence[str],
    names: Sequence[str],
) -> tuple[FloatArray, FloatArray]:
    """Sum relative attention and count cells, by patient and type, [P, T]."""
    place = {name: t for t, name in enumerate(names)}
    sums, counts = np.zeros((len(patients), len(names))), np.zeros((len(patients), len(names)))
    for row, patient_id in enumerate(patients):
        cells = annotated[patient_id]
        relative = attention.of_patient(patient_id)[:, cells.label]
        if len(relative) != len(cells.cell_types):
            raise EvaluationError(
                f"the run knows {len(relative)} cells of patient {patient_id}, the store "
                f"{len(cells.cell_types)}; use the store that the run was fitted on"
            )
        typed = [(i, place[t]) for i, t in enumerate(cells.cell_types) if t]
        for i, t in typed:
            sums[row, t] += relative[i] * len(relative)
            counts[row, t] += 1
    return sums, counts


def _intervals(
    sums: FloatArray,
    counts: FloatArray,
    labels: npt.NDArray[np.int64],
    *,
    num_resamples: int,
    seed: int,
) -> list[Interval]:
    """Put an interval around the mean of each column, and around last but one - last."""
    strata = np.zeros_like(labels)
    draws = resample(labels, strata, num_resamples=num_resamples, seed=seed)

    def means(weights: FloatArray) -> FloatArray:
        below = weights @ counts
        values = np.divide(weights @ sums, below, out=np.full(below.shape, np.nan), where=below > 0)
        return np.concatenate([values, values[:, -2:-1] - values[:, -1:]], axis=1)

    whole, drawn = means(np.ones((1, len(labels)))), means(draws.drawn)
    left_out = means(draws.left_out)
    return [
        bca_interval(
            whole[0, column],
            drawn[:, column],
            np.nan_to_num(jackknife_influence(left_out[:, column], labels, strata)),
        )
        for column in range(whole.shape[1])
    ]
