"""Train and evaluate the heads of a run: all folds and seeds, from the store to the run folder."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from natsort import natsorted

from aml_mil.cohort.folds import COLUMNS
from aml_mil.evaluation import (
    FloorCohort,
    Predictions,
    mean_per_patient,
    predict_floors,
    prediction_rows,
)
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.patients import patient_scores
from aml_mil.mil import run_dir
from aml_mil.mil.config import FitConfig, Precision
from aml_mil.mil.engine import EpochRecord, ResidentBags, TrainedHead, train_heads
from aml_mil.mil.leakage import Leakage
from aml_mil.mil.plan import FitPlan, make_plan
from aml_mil.mil.results import FitResults, apply_heads, training_features
from aml_mil.mil.training_patients import training_patients

TABLE_DTYPES: Mapping[Precision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
}
NO_COLOUR = "no colour in the store: its features were imported, the images were not seen"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSummary:
    """What a fit came to.

    Attributes:
        run_dir: Where the run is.
        is_new: False if the folder held this very run already, finished.
        num_patients: Patients.
        num_cells: Cells.
        num_replicates: Heads, folds x seeds.
        leakage: Whether an encoder has seen test patients; see ``check_leakage``.
        train_s: Seconds of training and validation; 0 if there was nothing to do.
        metrics: The run's metrics.json.
    """

    run_dir: Path
    is_new: bool
    num_patients: int
    num_cells: int
    num_replicates: int
    leakage: Leakage
    train_s: float
    metrics: Mapping[str, Any]


def fit(
    store: str | Path,
    *,
    out_dir: str | Path,
    config: FitConfig | None = None,
    folds: Mapping[str, int] | None = None,
    allow_transductive: bool = False,
) -> Iterator[EpochRecord | FitSummary]:
    """Train every fold and seed on a store, evaluate them, and write the run folder.

    Everything that can be refused is refused before this returns; training happens while the
    result is iterated.

    Args:
        store: Path of the store; ``{fold}`` in it stands for the fold, one store per fold.
        out_dir: The run folder.
        config: Protocol, head and training; the recipe's if not given.
        folds: Fold of every patient; made from the config's ``num_folds`` and ``fold_seed`` if
            not given, and taking the place of ``num_folds`` if given.
        allow_transductive: Whether an encoder may have seen test patients.

    Yields:
        One record per replicate and epoch, then the summary.

    Raises:
        FitError: The stores, their encoders or the run folder do not allow it.
        StoreError: A store cannot be read.
        FoldsError: The folds are not of these patients, or a label is too rare for them.
    """
    plan = make_plan(
        store, config=config or FitConfig(), folds=folds, allow_transductive=allow_transductive
    )
    path = Path(out_dir)
    finished = run_dir.prepare_run_dir(path, plan.to_json())
    return iter([_summary(plan, path)]) if finished else _run(plan, path)


def _run(plan: FitPlan, out_dir: Path) -> Iterator[EpochRecord | FitSummary]:
    inputs = plan.inputs
    bags = ResidentBags(
        [s.bags.features for s in inputs.stores],
        offsets=inputs.offsets,
        targets=inputs.targets,
        dtype=TABLE_DTYPES[plan.config.precision],
        device=torch.device(plan.config.device),
    )
    start = time.perf_counter()
    history: list[EpochRecord] = []
    training = train_heads(plan.replicates, bags, shape=plan.shape, config=plan.config)
    while True:
        try:
            record = next(training)
        except StopIteration as stop:
            heads: list[TrainedHead] = stop.value
            break
        history.append(record)
        yield record
    train_s = time.perf_counter() - start
    _warn_of_diverged(heads)
    results = apply_heads(heads, bags, inputs=inputs, roles=plan.roles, config=plan.config)
    _write_run(plan, out_dir, history=history, heads=heads, results=results)
    yield _summary(plan, out_dir, train_s=train_s)


def _warn_of_diverged(heads: Sequence[TrainedHead]) -> None:
    diverged = [h for h in heads if h.has_diverged]
    for head in diverged:
        logger.warning(
            "fold %d, seed %d diverged in epoch %d; its best epoch, %d, is kept",
            head.replicate.fold,
            head.replicate.seed,
            head.last_epoch,
            head.best_epoch,
        )
    if diverged:
        logger.warning(
            "%d of %d heads diverged: lower the learning rate (--lr) or use --standardize",
            len(diverged),
            len(heads),
        )


def _write_run(
    plan: FitPlan,
    out_dir: Path,
    *,
    history: Sequence[EpochRecord],
    heads: Sequence[TrainedHead],
    results: FitResults,
) -> None:
    run_dir.write_csv(
        out_dir / run_dir.FOLDS_FILE, COLUMNS, [(p, plan.folds[p]) for p in natsorted(plan.folds)]
    )
    run_dir.write_heads(
        out_dir / run_dir.HEADS_FILE,
        {(h.replicate.fold, h.replicate.seed): h.parameters for h in heads},
    )
    run_dir.write_csv(
        out_dir / run_dir.HISTORY_FILE,
        ("fold", "seed", "epoch", "lr", "train_loss", "val_loss"),
        sorted((r.fold, r.seed, r.epoch, r.lr, r.train_loss, r.val_loss) for r in history),
    )
    run_dir.write_csv(out_dir / run_dir.PREDICTIONS_FILE, *prediction_rows(results.predictions))
    run_dir.write_arrays(
        out_dir / run_dir.ATTENTION_FILE,
        {
            "bag_ids": np.array(plan.inputs.patient_ids),
            "offsets": plan.inputs.offsets,
            "scores": results.attention,
        },
    )
    run_dir.write_arrays(
        out_dir / run_dir.FEATURES_FILE,
        {
            **training_features(plan.inputs, plan.roles),
            **training_patients(plan.inputs, plan.roles).to_arrays(),
        },
    )
    run_dir.write_json(out_dir / run_dir.METRICS_FILE, _metrics(plan, results.predictions))


def _metrics(plan: FitPlan, predictions: Predictions) -> dict[str, Any]:
    inputs = plan.inputs
    pooled = [
        mean_per_patient(s.bags.features[0].reshape(s.bags.num_instances, -1), inputs.offsets)
        for s in inputs.stores
    ]
    floors = predict_floors(
        FloorCohort(
            patient_ids=inputs.patient_ids,
            targets=inputs.targets,
            folds=np.array([plan.folds[p] for p in inputs.patient_ids]),
            classes=inputs.classes,
            offsets=inputs.offsets,
            colour=inputs.stores[0].bags.colour,
            pooled={k: pooled[inputs.store_index(k)] for k in range(plan.config.num_folds)},
        )
    )
    evaluation = assess(patient_scores(predictions))
    figures = {name: assess(patient_scores(floor)).to_json() for name, floor in floors.items()}
    return {
        **evaluation.to_json(),
        "floors": {
            name: {**floor["macro"], "per_class": floor["per_class"]}
            for name, floor in figures.items()
        },
        **({} if "colour" in floors else {"floors_left_out": {"colour": NO_COLOUR}}),
        "undefined": [{"fold": fold, "class": label} for fold, label in evaluation.undefined],
    }


def _summary(plan: FitPlan, path: Path, *, train_s: float | None = None) -> FitSummary:
    return FitSummary(
        run_dir=path,
        is_new=train_s is not None,
        num_patients=len(plan.inputs.labels),
        num_cells=int(plan.inputs.offsets[-1]),
        num_replicates=plan.config.num_folds * plan.config.seeds,
        leakage=plan.leakage,
        train_s=train_s or 0.0,
        metrics=run_dir.open_run(path).metrics,
    )
