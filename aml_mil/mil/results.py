"""What trained heads say about the patients: predictions and attention.

Shapes: R replicates, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from aml_mil.cohort.folds import FoldRoles
from aml_mil.evaluation import Predictions, concatenate
from aml_mil.evaluation.predictions import ROLES
from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import (
    Evaluation,
    ResidentBags,
    StackedHeads,
    TrainedHead,
    Workspace,
    stack_parameters,
)
from aml_mil.mil.inputs import FitInputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitResults:
    """Outputs of all heads.

    Attributes:
        predictions: Every replicate on every patient.
        attention: Scores before the softmax of every cell by the heads of the fold where its
            patient was tested, [seeds, cells, C].
    """

    predictions: Predictions
    attention: npt.NDArray[np.float16]


def apply_heads(
    heads: Sequence[TrainedHead],
    bags: ResidentBags,
    *,
    inputs: FitInputs,
    roles: Sequence[FoldRoles],
    config: FitConfig,
) -> FitResults:
    """Apply every head to all cells of every patient, in the identity view."""
    device = bags.table.device
    sum_dtype = next(iter(heads[0].parameters.values())).dtype
    everyone = np.arange(len(inputs.targets))
    evaluation = Evaluation(
        [bags.whole(everyone, store=h.replicate.store) for h in heads], device=device
    )
    parameters = stack_parameters([h.parameters for h in heads], dtype=sum_dtype, device=device)
    num_cells = int(inputs.offsets[-1])
    stack = StackedHeads(parameters, table=bags.table, workspace=Workspace(device))
    attention = np.zeros((config.seeds, num_cells, len(inputs.classes)), np.float16)
    parts = []
    for head, output in zip(heads, evaluation.outputs(stack), strict=True):
        fold, seed = head.replicate.fold, head.replicate.seed
        parts.append(_predictions(inputs, roles[fold], fold, seed, softmax(output.logits, axis=1)))
        tested = np.isin(inputs.patient_ids, roles[fold].test)
        cells = np.repeat(tested, np.diff(inputs.offsets))
        attention[seed, cells] = output.scores[cells]
    return FitResults(predictions=concatenate(parts), attention=attention)


def training_features(inputs: FitInputs, roles: Sequence[FoldRoles]) -> dict[str, npt.NDArray[Any]]:
    """Return mean and s.d. of each feature over each fold's training cells, identity view."""
    means, sds, counts = [], [], []
    sizes = np.diff(inputs.offsets)
    for fold, fold_roles in enumerate(roles):
        trained = np.repeat(np.isin(inputs.patient_ids, fold_roles.train), sizes)
        features = inputs.stores[inputs.store_index(fold)].bags.features[0, trained]
        means.append(features.mean(axis=0, dtype=np.float64))
        sds.append(features.std(axis=0, dtype=np.float64))
        counts.append(int(trained.sum()))
    return {"mean": np.stack(means), "sd": np.stack(sds), "num_cells": np.array(counts)}


def _predictions(
    inputs: FitInputs,
    roles: FoldRoles,
    fold: int,
    seed: int,
    probabilities: npt.NDArray[np.float64],
) -> Predictions:
    role_of = {p: role for role in ROLES for p in getattr(roles, role)}
    ids = inputs.patient_ids
    return Predictions(
        classes=inputs.classes,
        patient_ids=ids,
        targets=inputs.targets,
        folds=np.full(len(ids), fold),
        seeds=np.full(len(ids), seed),
        roles=tuple(role_of[p] for p in ids),
        probabilities=probabilities,
    )
