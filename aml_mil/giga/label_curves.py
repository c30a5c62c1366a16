"""Figures of every method over the share of known labels, with intervals.

Shapes: S draws, P patients, C classes, B resamples.

A figure is computed per fold and averaged over folds, for each draw of labels; the curve is the
mean over the draws. The interval resamples test patients and keeps the draws: averaging the
predictions of several draws, as for seeds, would let a model know more labels than it was given.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aml_mil.evaluation.bootstrap import bca_interval, fold_mean, jackknife_influence, resample
from aml_mil.evaluation.metrics import METRICS
from aml_mil.evaluation.patients import PatientScores
from aml_mil.report.label_fractions import CurvePoint

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawFigures:
    """One row of probe.csv: macro figures of one draw of labels.

    Attributes:
        method: Name.
        fraction: Of the labels of training and validation patients, up to 1.
        num_labels: Known labels, mean over folds.
        draw: Number of the draw, from 0.
        f1: Mean over folds.
        roc_auc: Mean over folds.
        pr_auc: Mean over folds.
    """

    method: str
    fraction: float
    num_labels: float
    draw: int
    f1: float
    roc_auc: float
    pr_auc: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MethodScores:
    """What one method says about every test patient, at one share.

    Attributes:
        method: Name.
        percent: Share of the labels.
        num_labels: Known labels, mean over folds.
        scores: Its seeds are the draws.
    """

    method: str
    percent: int
    num_labels: float
    scores: PatientScores


def figures_of_draws(found: MethodScores) -> Iterator[DrawFigures]:
    """Score each draw."""
    ones = np.ones((1, len(found.scores.targets)))
    for draw, scores in enumerate(_by_draw(found.scores)):
        macro = {name: float(fold_mean(name, scores, ones)[0, -1]) for name in METRICS}
        yield DrawFigures(
            method=found.method,
            fraction=found.percent / 100,
            num_labels=found.num_labels,
            draw=draw,
            **macro,
        )


def curve_points(found: MethodScores, *, num_resamples: int, seed: int) -> Iterator[CurvePoint]:
    """Average the draws, with an interval around each figure."""
    targets, folds = found.scores.targets, found.scores.folds
    draws = resample(targets, folds, num_resamples=num_resamples, seed=seed)
    ones = np.ones((1, len(targets)))
    smallest = int(np.bincount(targets).min())
    for name in METRICS:
        each = _each_draw(name, found.scores, ones)[:, 0]
        interval = bca_interval(
            float(each.mean()),
            _each_draw(name, found.scores, draws.drawn).mean(axis=0),
            jackknife_influence(
                _each_draw(name, found.scores, draws.left_out).mean(axis=0), targets, folds
            ),
            num_cases=smallest,
        )
        yield CurvePoint(
            method=found.method,
            fraction=found.percent / 100,
            num_labels=found.num_labels,
            metric=name,
            mean=float(each.mean()),
            sd=float(each.std(ddof=1)) if len(each) > 1 else None,
            low=interval.low,
            high=interval.high,
        )


def _each_draw(name: str, scores: PatientScores, weights: FloatArray) -> FloatArray:
    """Compute a macro figure of each draw and row of weights, [S, B]."""
    return np.stack([fold_mean(name, one, weights)[:, -1] for one in _by_draw(scores)])


def _by_draw(scores: PatientScores) -> Iterator[PatientScores]:
    for draw, seed in enumerate(scores.seeds):
        yield PatientScores(
            classes=scores.classes,
            patient_ids=scores.patient_ids,
            targets=scores.targets,
            folds=scores.folds,
            seeds=(seed,),
            probabilities=scores.probabilities[draw : draw + 1],
        )
