"""What a probe trains on the known labels: a logistic regression on vectors, and heads on cells.

Shapes: P patients, C classes, D figures, S draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.giga.bags import IntArray
from aml_mil.giga.fractions import LabelDraw
from aml_mil.mil.engine import ResidentBags, Training
from aml_mil.mil.inputs import FitInputs
from aml_mil.mil.plan import FitPlan
from aml_mil.mil.results import apply_heads

INVERSE_PENALTY = 10.0  # Source: Lazard et al. 2022, as the balanced weights and the iterations.
MAX_ITERATIONS = 1000

FloatArray = NDArray[np.float64]


def regress(
    vectors: Mapping[int, FloatArray],
    draws: Sequence[LabelDraw],
    *,
    inputs: FitInputs,
    pools: Sequence[IntArray],
    folds: IntArray,
) -> PatientScores:
    """Fit a logistic regression for each fold and draw, on all known labels: it selects nothing.

    Args:
        vectors: Of all patients, [P, D], by fold.
        draws: Of one share, all folds.
        inputs: Patients and classes.
        pools: Patients of each fold that are not tested; they give the scale, without labels.
        folds: Fold of each patient, [P].

    Returns:
        Test predictions; the seeds are the draws.
    """
    seeds = tuple(sorted({draw.draw for draw in draws}))
    probabilities = np.zeros((len(seeds), len(folds), len(inputs.classes)))
    for draw in draws:
        own = vectors[draw.fold]
        scaled = StandardScaler().fit(own[pools[draw.fold]]).transform(own)
        model = LogisticRegression(
            C=INVERSE_PENALTY, class_weight="balanced", max_iter=MAX_ITERATIONS
        ).fit(scaled[draw.known], inputs.targets[draw.known])
        test = np.flatnonzero(folds == draw.fold)
        probabilities[draw.draw, test] = model.predict_proba(scaled[test])
    return PatientScores(
        classes=inputs.classes,
        patient_ids=inputs.patient_ids,
        targets=inputs.targets,
        folds=folds,
        seeds=seeds,
        probabilities=probabilities,
    )


def fit_heads(
    plan: FitPlan, draws: Sequence[LabelDraw], *, device: torch.device
) -> Iterator[int | PatientScores]:
    """Train heads as fit-mil does; known validation patients choose the epoch.

    Args:
        plan: Patients, folds, settings.
        draws: Of one share, all folds.
        device: Where to train.

    Yields:
        The epoch in progress, and, last, the test predictions; the seeds are the draws.
    """
    own = {replicate.fold: replicate for replicate in plan.replicates()}
    replicates = [
        replace(own[d.fold], seed=d.draw, train=d.train, validation=d.validation) for d in draws
    ]
    bags = ResidentBags(
        [s.bags.features for s in plan.inputs.stores],
        offsets=plan.inputs.offsets,
        targets=plan.inputs.targets,
        dtype=torch.float32,
        device=device,
    )
    training = Training(replicates, bags, shape=plan.shape, config=plan.config)
    while training.is_running:
        yield from (record.epoch for record in training.run_epoch())
    results = apply_heads(
        training.heads, bags, shape=plan.shape, inputs=plan.inputs, roles=plan.roles
    )
    yield patient_scores(results.predictions)
