"""What trained heads say about the patients: predictions and attention.

Shapes: R replicates, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from aml_mil.cohort.folds import FoldRoles
from aml_mil.evaluation import Predictions, concatenate
from aml_mil.evaluation.predictions import ROLES, Role
from aml_mil.mil.engine import (
    Evaluation,
    ResidentBags,
    StackedHeads,
    TrainedHead,
    Workspace,
    stack_parameters,
)
from aml_mil.mil.head import HeadShape
from aml_mil.mil.inputs import FitInputs
from aml_mil.mil.sampling import IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitResults:
    """Outputs of all heads.

    Attributes:
        predictions: Every replicate on every patient.
        attention: Scores before the softmax of every cell by the heads of the fold where its
            patient was tested, [seeds, cells, C]; NaN for patients that are never tested, None
            where the heads learn none.
    """

    predictions: Predictions
    attention: npt.NDArray[np.float16] | None


def apply_heads(
    heads: Sequence[TrainedHead],
    bags: ResidentBags,
    *,
    shape: HeadShape,
    inputs: FitInputs,
    roles: Sequence[FoldRoles],
) -> FitResults:
    """Apply every head to all cells of its fold's patients, in the identity view."""
    device = bags.table.device
    dtype = torch.float64 if bags.table.dtype == torch.float64 else torch.float32
    role_of = [{p: role for role in ROLES for p in getattr(r, role)} for r in roles]
    places = [
        np.flatnonzero([p in role_of[h.replicate.fold] for p in inputs.patient_ids]) for h in heads
    ]
    evaluation = Evaluation(
        [bags.whole(own, store=h.replicate.store) for h, own in zip(heads, places, strict=True)],
        device=device,
    )
    stack = StackedHeads(
        stack_parameters([h.parameters for h in heads], dtype=dtype, device=device),
        shape=shape,
        table=bags.table,
        workspace=Workspace(device),
    )
    num_seeds = 1 + max(h.replicate.seed for h in heads)
    attention = np.full((num_seeds, bags.offsets[-1], shape.num_classes), np.nan, np.float16)
    parts = []
    for head, own, output in zip(heads, places, evaluation.outputs(stack), strict=True):
        fold, seed = head.replicate.fold, head.replicate.seed
        part = _predictions(inputs, own, role_of[fold], softmax(output.logits, axis=1))
        parts.append(replace(part, folds=np.full(len(own), fold), seeds=np.full(len(own), seed)))
        tested = np.array([role == "test" for role in part.roles])
        scored = np.repeat(tested, bags.sizes[own])
        cells = bags.whole(own[tested], store=0).rows
        attention[seed, cells] = output.scores[scored]
    has_attention = shape.pool == "attention"
    return FitResults(
        predictions=concatenate(parts), attention=attention if has_attention else None
    )


def training_features(inputs: FitInputs, roles: Sequence[FoldRoles]) -> dict[str, npt.NDArray[Any]]:
    """Return mean and s.d. of each feature over each fold's training cells, identity view."""
    means, sds, counts = [], [], []
    for fold, fold_roles in enumerate(roles):
        stored = inputs.stores[inputs.store_index(fold)].bags
        trained = np.flatnonzero(np.isin(inputs.patient_ids, fold_roles.train))
        bags = [stored.features[0][stored.bag(int(i))] for i in trained]  # nothing is copied
        count = sum(len(bag) for bag in bags)
        mean = sum(bag.sum(axis=0, dtype=np.float64) for bag in bags) / count
        squares = sum(np.square(bag - mean).sum(axis=0) for bag in bags)
        means.append(mean)
        sds.append(np.sqrt(squares / count))
        counts.append(count)
    return {"mean": np.stack(means), "sd": np.stack(sds), "num_cells": np.array(counts)}


def _predictions(
    inputs: FitInputs,
    places: IntArray,
    role_of: Mapping[str, Role],
    probabilities: npt.NDArray[np.float64],
) -> Predictions:
    """Say what a head predicts of some patients, its fold and seed left to be filled in."""
    ids = tuple(inputs.patient_ids[i] for i in places)
    return Predictions(
        classes=inputs.classes,
        patient_ids=ids,
        targets=inputs.targets[places],
        folds=np.zeros(len(ids), np.int64),
        seeds=np.zeros(len(ids), np.int64),
        roles=tuple(role_of[p] for p in ids),
        probabilities=probabilities,
    )
