"""What a run says about patients that it has not seen, and the files that keep it.

Shapes: R replicates, P patients, C classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_mil.embedding import FailedPatient
from aml_mil.evaluation.assessment import Assessment, assess
from aml_mil.evaluation.patient_cells import PatientCells
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.predictions import PROBABILITY_PREFIX
from aml_mil.files import write_csv
from aml_mil.mil.run_dir import METRICS_FILE, PREDICTIONS_FILE, write_json

FloatArray = npt.NDArray[np.float64]

SD_PREFIX = "sd_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CohortPrediction:
    """What a run says about patients.

    Attributes:
        classes: C names.
        patient_ids: P ids.
        labels: Known labels, None where there is none.
        by_replicate: Probabilities by every head, [R, P, C].
        known: Patients of this prediction that the run was itself fitted on, by id.
        cells: What was seen of each patient's cells.
        false_warnings: Share of patients like the training patients that would be called far, in
            expectation; None where the training patients are not known any more.
        not_judged: Why no distance could be measured; "" where it could.
        failed: Patients that could not be predicted, and why.
    """

    classes: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    by_replicate: FloatArray
    known: tuple[str, ...]
    cells: tuple[PatientCells, ...]
    false_warnings: float | None
    not_judged: str
    failed: tuple[FailedPatient, ...] = ()

    @property
    def far(self) -> tuple[str, ...]:
        """Patients far from the training patients; their predictions mean little."""
        pairs = zip(self.patient_ids, self.cells, strict=True)
        return tuple(patient_id for patient_id, cells in pairs if cells.is_far)

    @property
    def probabilities(self) -> FloatArray:
        """Mean over the replicates, [P, C]."""
        mean: FloatArray = self.by_replicate.mean(axis=0)
        return mean

    @property
    def predicted(self) -> tuple[str, ...]:
        """Most probable class of each patient."""
        return tuple(self.classes[c] for c in self.probabilities.argmax(axis=1))

    @property
    def scores(self) -> PatientScores | None:
        """The labelled patients as one fold, every replicate a seed; None without labels."""
        rows = [i for i, label in enumerate(self.labels) if label is not None]
        if not rows:
            return None
        targets = [self.classes.index(label) for label in self.labels if label is not None]
        return PatientScores(
            classes=self.classes,
            patient_ids=tuple(self.patient_ids[i] for i in rows),
            targets=np.array(targets, dtype=np.int64),
            folds=np.zeros(len(rows), dtype=np.int64),
            seeds=tuple(range(len(self.by_replicate))),
            probabilities=self.by_replicate[:, rows],
        )

    @property
    def assessment(self) -> Assessment | None:
        """Every metric of the labelled patients with intervals; None without labels."""
        return None if self.scores is None else assess(self.scores)

    def write(self, folder: Path) -> Assessment | None:
        """Write predictions.csv and, with labels, metrics.json; returns what the latter holds."""
        folder.mkdir(parents=True, exist_ok=True)
        records = self.records()
        rows = [["" if x is None else x for x in record.values()] for record in records]
        write_csv(folder / PREDICTIONS_FILE, list(records[0]), rows)
        assessment = self.assessment
        if assessment is None:
            (folder / METRICS_FILE).unlink(missing_ok=True)  # of patients predicted there earlier
        else:
            document = {**assessment.to_json(), "num_patients": assessment.num_patients}
            write_json(folder / METRICS_FILE, document)
        return assessment

    def records(self) -> list[dict[str, str | float | None]]:
        """Return a patient's columns of predictions.csv by name, for each patient.

        Id, label, predicted class, mean and s.d. of the probabilities, distance from the training
        patients (above 1: far; None: not measured).
        """
        means, sds = self.probabilities.tolist(), self._sds()
        columns = [f"{PROBABILITY_PREFIX}{c}" for c in self.classes]
        columns += [f"{SD_PREFIX}{c}" for c in self.classes]
        return [
            {
                "patient_id": patient_id,
                "label": self.labels[i],
                "predicted": self.predicted[i],
                **dict(zip(columns, [*means[i], *sds[i]], strict=True)),
                "distance": self.cells[i].distance,
            }
            for i, patient_id in enumerate(self.patient_ids)
        ]

    def _sds(self) -> list[list[float | None]]:
        """Spread of each probability over the replicates, [P, C]; of one there is none."""
        if len(self.by_replicate) == 1:
            return [[None] * len(self.classes)] * len(self.patient_ids)
        sds: list[list[float | None]] = self.by_replicate.std(axis=0, ddof=1).tolist()
        return sds
