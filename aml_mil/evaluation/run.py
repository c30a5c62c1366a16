"""A finished run, opened to be looked at: from a notebook, and by the commands.

run = aml_mil.open_run("runs/pbc")
run.assessment.macro["roc_auc"]                      # mean, s.d., 95% interval
run.explain("Patient_07").most_attended("APL", 5)    # cells, with attention
run.predict("new_cohort/").probabilities             # averaged over all heads
run.roc_figure()                                     # a matplotlib figure
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_mil.evaluation.assessment import Assessment, assess
from aml_mil.evaluation.attention import (
    AnnotatedCells,
    Attention,
    AttentionByType,
    attention_by_type,
    read_attention,
)
from aml_mil.evaluation.bootstrap import bootstrap_intervals
from aml_mil.evaluation.cell_map import CellMap, map_cells, read_named_cells
from aml_mil.evaluation.comparison import RunToCompare, floors_from_json
from aml_mil.evaluation.confusion import confusion
from aml_mil.evaluation.curves import precision_recall_curves, roc_curves
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.explain import Explanation, predict_single_cells
from aml_mil.evaluation.kinds import Kind, shipped_kinds
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.mil.run_dir import ATTENTION_FILE, Run
from stores import FeatureStore, open_store, store_exists

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aml_mil.evaluation.cohort_prediction import CohortPrediction


def open_run(path: str | Path) -> "OpenRun":
    """Open the folder of a finished run.

    Raises:
        RunError: There is none.
    """
    return OpenRun(Run(path))


class OpenRun:
    """A finished run with everything that can be asked of it, computed when asked.

    Args:
        run: The folder.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.path = run.path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.run.classes

    @cached_property
    def scores(self) -> PatientScores:
        """Test predictions by patient."""
        return patient_scores(self.run.predictions(), where=str(self.path))

    @cached_property
    def assessment(self) -> Assessment:
        """Every metric with mean, s.d. and interval."""
        return assess(self.scores)

    @cached_property
    def attention(self) -> Attention:
        """Attention of every cell by heads that never saw its patient.

        Raises:
            EvaluationError: The heads learn none, or the file is not as fit-mil writes it.
        """
        pool = self.run.document["fit"].get("pool", "attention")
        if pool != "attention":
            raise EvaluationError(
                f"expected heads that learn attention, those of {self.path} pool by {pool}; "
                "for cells that count, fit with --pool attention"
            )
        return read_attention(self.path / ATTENTION_FILE)

    def to_compare(self, name: str | None = None) -> RunToCompare:
        """Return what a comparison needs, under a name of its own."""
        return RunToCompare(
            name=name or self.name, scores=self.scores, floors=floors_from_json(self.run.metrics)
        )

    @contextmanager
    def store(self, fold: int = 0) -> Iterator[FeatureStore]:
        """Open the store that a fold was fitted on.

        Raises:
            EvaluationError: It is not there any more, or another one is.
        """
        document = self.store_document(fold)
        path: str = document["path"]
        if not store_exists(path):
            raise EvaluationError(
                f"the store of {self.path} is not at {path} any more; put it back there"
            )
        with open_store(path) as store:
            if store.manifest.identity_sha256 != document["identity_sha256"]:
                raise EvaluationError(
                    f"{path} is not the store that {self.path} was fitted on: encoder "
                    f"{store.manifest.encoder} with weights {store.manifest.weights_sha256[:12]}, "
                    f"expected {document['encoder']} with {document['weights_sha256'][:12]}"
                )
            yield store

    def store_document(self, fold: int = 0) -> Mapping[str, Any]:
        """Return what config.json says about the store of a fold."""
        stores: list[Mapping[str, Any]] = self.run.document["stores"]
        return stores[fold if len(stores) > 1 else 0]

    def fold_of(self, patient_id: str) -> int:
        """Return the fold in which a patient was tested.

        Raises:
            EvaluationError: The run has no such patient.
        """
        if patient_id not in self.scores.patient_ids:
            raise EvaluationError(f"{self.path} has no patient {patient_id!r}")
        return int(self.scores.folds[self.scores.patient_ids.index(patient_id)])

    def explain(self, patient_id: str) -> Explanation:
        """Say how much each cell of a patient counted, and what it says on its own.

        By the heads of the fold where the patient was tested, averaged over the seeds.

        Raises:
            EvaluationError: The run has no such patient, or its store is gone.
        """
        fold = self.fold_of(patient_id)
        with self.store(fold) as store:
            bag = store.read(patient_id)
        heads = [self.run.head(fold, seed) for seed in self.scores.seeds]
        return Explanation(
            patient_id=patient_id,
            classes=self.classes,
            instance_ids=bag.instance_ids,
            cell_types=bag.instance_labels or ("",) * len(bag.instance_ids),
            attention=self.attention.of_patient(patient_id),
            alone=predict_single_cells(heads, bag.features),
        )

    def cells_figure(self, patient_id: str, cohort: str | Path, *, count: int = 8) -> "Figure":
        """Draw the cells of a patient that counted most and least for each class.

        Args:
            patient_id: The patient.
            cohort: The images that the run's store was embedded from.
            count: Cells in a row.

        Raises:
            EvaluationError: The run has no such patient, its store is gone, or the cohort lacks
                an image.
        """
        from aml_mil.evaluation.new_patients import read_cells
        from aml_mil.report.cell_gallery import gallery_figure

        found = self.explain(patient_id)
        shown = {
            cell.instance_id
            for label in found.classes
            for cells in (found.most_attended(label, count), found.least_attended(label, count))
            for cell in cells
        }
        return gallery_figure(found, read_cells(Path(cohort), patient_id, shown), count=count)

    def attention_by_type(self, kinds: Mapping[str, Kind] | None = None) -> AttentionByType:
        """Average attention by cell type, and malignant against healthy.

        Args:
            kinds: Kind by cell type; the shipped tables if not given.

        Raises:
            EvaluationError: The store is gone, or has no cell types.
        """
        targets = dict(zip(self.scores.patient_ids, self.scores.targets.tolist(), strict=True))
        annotated = {}
        with self.store() as store:
            for patient_id, target in targets.items():
                types = store.read(patient_id).instance_labels
                if types and any(types):
                    annotated[patient_id] = AnnotatedCells(label=target, cell_types=types)
        return attention_by_type(self.attention, annotated, kinds or shipped_kinds())

    def cell_map(self, *, name: str | None = None, seed: int = 0) -> CellMap:
        """Lay out the annotated cells of the patients that the first fold tests.

        Raises:
            EvaluationError: The store is gone, or has no cell types.
        """
        rows = self.scores.fold_rows[0]
        with self.store(0) as store:
            cells = read_named_cells(store, [self.scores.patient_ids[i] for i in rows], seed=seed)
        return map_cells(cells, name=name or self.name, seed=seed)

    def predict(
        self,
        source: str | Path,
        *,
        weights: str | Path | None = None,
        out_dir: str | Path | None = None,
    ) -> "CohortPrediction":
        """Predict a patient's folder, a cohort or a store by all heads, averaged.

        Args:
            source: What is predicted; images are embedded first.
            weights: The encoder's weights, where they are not at the path in config.json.
            out_dir: Keeps the features, predictions.csv and, with labels, metrics.json.

        Raises:
            EvaluationError: The encoder is another than the run's, or a label is unknown.
        """
        from aml_mil.evaluation.predict import predict_source

        return predict_source(self.run, source, weights=weights, out_dir=out_dir)

    def confusion_figure(self, *, seed: int | None = 0) -> "Figure":
        """Draw the confusion matrix of the test folds (figure 2)."""
        from aml_mil.report.figures import confusion_figure

        return confusion_figure({self.name: confusion(self.scores, seed=seed)}, self.classes)

    def roc_figure(self) -> "Figure":
        """Draw the mean ROC curve of each class (figure 3)."""
        from aml_mil.report.figures import curve_figure

        areas = bootstrap_intervals(self.scores)["roc_auc"]
        return curve_figure({self.name: roc_curves(self.scores)}, {self.name: areas})

    def precision_recall_figure(self) -> "Figure":
        """Draw the mean precision-recall curve of each class."""
        from aml_mil.report.figures import curve_figure

        areas = bootstrap_intervals(self.scores)["pr_auc"]
        curves = {self.name: precision_recall_curves(self.scores)}
        return curve_figure(curves, {self.name: areas}, kind="pr")

    def attention_figure(self, kinds: Mapping[str, Kind] | None = None) -> "Figure":
        """Draw the mean attention by cell type (figure 4)."""
        from aml_mil.report.figures import attention_figure

        return attention_figure({self.name: self.attention_by_type(kinds)})

    def cell_map_figure(self, *, seed: int = 0) -> "Figure":
        """Draw the annotated cells of fold 0 in the plane (figure 5)."""
        from aml_mil.report.figures import cell_map_figure

        return cell_map_figure([self.cell_map(seed=seed)])
