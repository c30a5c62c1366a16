"""What a finished fit leaves in its run folder: heads, predictions, attention, and the metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from aml_mil.evaluation.floors import NOT_TESTED, fitted_patients
from aml_mil.evaluation.patients import patient_scores
from aml_mil.files import write_csv, write_file
from aml_mil.mil import run_dir, splits
from aml_mil.mil.engine import EpochRecord, TrainedHead
from aml_mil.mil.plan import FitPlan
from aml_mil.mil.results import FitResults, training_features
from aml_mil.mil.training_patients import training_patients

NO_COLOUR = "no colour in the store: its features were imported, the images were not seen"


def write_run(
    plan: FitPlan,
    out_dir: Path,
    *,
    history: Sequence[EpochRecord],
    heads: Sequence[TrainedHead],
    results: FitResults,
    probability_gap: float | None,
) -> None:
    """Write the folder of a run, metrics last.

    Args:
        plan: The run.
        out_dir: Its folder.
        history: Records of its epochs.
        heads: Its heads.
        results: What they say about the patients.
        probability_gap: Largest difference of a probability to that of the same heads in fp32;
            None where these are they.
    """
    if plan.has_splits:
        for k, roles in enumerate(plan.roles):
            name = splits.FILE_NAME.replace("{i}", str(k))
            write_file(out_dir / name, splits.format_split(roles).encode())
    else:
        folds = [(p, plan.folds[p]) for p in natsorted(plan.folds)]
        write_csv(out_dir / run_dir.FOLDS_FILE, COLUMNS, folds)
    run_dir.write_heads(
        out_dir / run_dir.HEADS_FILE,
        {(h.replicate.fold, h.replicate.seed): h.parameters for h in heads},
    )
    write_csv(
        out_dir / run_dir.HISTORY_FILE,
        ("fold", "seed", "epoch", "lr", "train_loss", "val_loss"),
        sorted((r.fold, r.seed, r.epoch, r.lr, r.train_loss, r.val_loss) for r in history),
    )
    write_csv(out_dir / run_dir.PREDICTIONS_FILE, *prediction_rows(results.predictions))
    if results.attention is not None:
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
    metrics = _metrics(plan, results.predictions)
    if probability_gap is not None:
        metrics["probability_gap_to_fp32"] = probability_gap
    run_dir.write_json(out_dir / run_dir.METRICS_FILE, metrics)


def _metrics(plan: FitPlan, predictions: Predictions) -> dict[str, Any]:
    floors = predict_floors(_floor_cohort(plan, predictions))
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


def _floor_cohort(plan: FitPlan, predictions: Predictions) -> FloorCohort:
    """Return what the floors look at, of the patients that have a role."""
    inputs = plan.inputs
    everyone = {p for roles in plan.roles for p in (*roles.train, *roles.validation, *roles.test)}
    used = np.array([p in everyone for p in inputs.patient_ids])
    sizes = np.diff(inputs.offsets)
    cells = np.repeat(used, sizes)
    colour = inputs.stores[0].bags.colour
    pooled = [
        mean_per_patient(store.bags.features[0], inputs.offsets)[used] for store in inputs.stores
    ]
    ids = tuple(p for p in inputs.patient_ids if p in everyone)
    return FloorCohort(
        patient_ids=ids,
        targets=inputs.targets[used],
        folds=np.array([plan.folds.get(p, NOT_TESTED) for p in ids]),
        fitted=fitted_patients(predictions, ids),
        classes=inputs.classes,
        offsets=np.concatenate([[0], np.cumsum(sizes[used])]),
        colour=None if colour is None else colour[cells],
        pooled={k: pooled[inputs.store_index(k)] for k in range(plan.config.num_folds)},
    )
