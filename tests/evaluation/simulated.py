"""Predictions drawn from known distributions, and small runs."""

from statistics import NormalDist

import numpy as np

from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.predictions import Predictions


def simulate(
    sizes: tuple[int, ...] = (25, 15),
    *,
    num_folds: int = 5,
    num_seeds: int = 3,
    separation: float = 1.2,
    seed: int = 0,
) -> PatientScores:
    """Draw logits around the truth; patients of each class are spread over the folds."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(sizes)), sizes)
    folds = np.concatenate([np.arange(size) % num_folds for size in sizes])
    shape = (num_seeds, len(targets), len(sizes))
    logits = rng.normal(size=shape[1:]) + 0.5 * rng.normal(size=shape)
    logits[:, np.arange(len(targets)), targets] += separation
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return PatientScores(
        classes=tuple("ABCDE"[: len(sizes)]),
        patient_ids=tuple(f"p{i:03}" for i in range(len(targets))),
        targets=targets,
        folds=folds,
        seeds=tuple(range(num_seeds)),
        probabilities=probabilities,
    )


def simulate_binormal(
    num_positive: int, num_negative: int, *, auc: float, num_folds: int, rng: np.random.Generator
) -> PatientScores:
    """Draw scores of a known ROC-AUC; each fold's head has an offset of its own."""
    targets = np.repeat([1, 0], [num_positive, num_negative])
    folds = np.concatenate([np.arange(n) % num_folds for n in (num_positive, num_negative)])
    distance = NormalDist().inv_cdf(auc) * np.sqrt(2)
    scores = rng.normal(size=len(targets)) + distance * targets + rng.normal(size=num_folds)[folds]
    probability = 1 / (1 + np.exp(-scores))
    return PatientScores(
        classes=("negative", "positive"),
        patient_ids=tuple(f"p{i:03}" for i in range(len(targets))),
        targets=targets,
        folds=folds,
        seeds=(0,),
        probabilities=np.stack([1 - probability, probability], axis=1)[None],
    )


def as_predictions(scores: PatientScores) -> Predictions:
    """Lay patients out as the rows of a predictions.csv, with training rows beside them."""
    num_seeds, num_patients, _ = scores.probabilities.shape
    again = 2 * num_seeds
    return Predictions(
        classes=scores.classes,
        patient_ids=scores.patient_ids * again,
        targets=np.tile(scores.targets, again),
        folds=np.concatenate(
            [np.tile(scores.folds, num_seeds), np.tile((scores.folds + 1) % 5, num_seeds)]
        ),
        seeds=np.tile(np.repeat(scores.seeds, num_patients), 2),
        roles=("test",) * (num_seeds * num_patients) + ("train",) * (num_seeds * num_patients),
        probabilities=np.concatenate(
            [*scores.probabilities, *np.full_like(scores.probabilities, 0.5)]
        ),
    )
