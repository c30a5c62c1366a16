"""Compare vectors of patients where few labels are known, on the same folds and the same labels.

Shapes: P patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aml_mil.evaluation.patients import PatientScores
from aml_mil.giga.bags import PatientBags, read_bags
from aml_mil.giga.checks import check_unseen
from aml_mil.giga.fractions import LabelDraw, LabelDraws, draw_labels, role_places
from aml_mil.giga.label_curves import (
    DrawFigures,
    MethodScores,
    curve_points,
    figures_of_draws,
)
from aml_mil.giga.probe_config import ProbeConfig
from aml_mil.giga.probe_models import fit_heads, regress
from aml_mil.giga.representations import load_files, represent
from aml_mil.mil.leakage import Leakage
from aml_mil.mil.plan import make_plans
from aml_mil.report.label_fractions import CurvePoint
from aml_mil.runtime import resolve_device

FIT_MIL = "fit_mil"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeProgress:
    """How far a probe is, in steps: a method at a share, or an epoch of the heads at a share."""

    steps_done: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbeResult:
    """What came out.

    Attributes:
        draws: Macro figures of every method, share and draw.
        points: Their means, with intervals.
        skipped: Share → why it was left out.
        leakage: Whether an encoder of cells or of patients had seen test patients.
        num_patients: P.
    """

    draws: tuple[DrawFigures, ...]
    points: tuple[CurvePoint, ...]
    skipped: Mapping[int, str]
    leakage: Leakage
    num_patients: int


class Probe:
    """One comparison, its inputs checked; iterating does the work.

    Args:
        store: Path of the store; ``{fold}`` in it stands for the fold, one store per fold.
        giga: Path of an encoder of patients, may contain ``{fold}``; None for none.
        config: Settings.
        folds: Fold of every patient; made from the config if not given.
        allow_transductive: Whether encoders may have seen test patients (without labels).

    Attributes:
        result: What came out; None before the end.

    Raises:
        FitError: The store or its encoder does not allow it; test patients were seen.
        GigaError: An encoder of patients cannot be used with the store.
        FoldsError: The folds are not of these patients, or a label is too rare for them.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        giga: str | None,
        config: ProbeConfig,
        folds: Mapping[str, int] | None,
        allow_transductive: bool,
    ) -> None:
        self.config = config
        self.result: ProbeResult | None = None
        self._device = resolve_device(config.device)
        (self._plan,) = make_plans(
            [store],
            config=config.fit_config(device=str(self._device)),
            folds=folds,
            allow_transductive=allow_transductive,
        )
        inputs = self._plan.inputs
        num_folds = len(self._plan.roles)
        read = [
            read_bags(s.path, device=self._device, patient_ids=inputs.patient_ids)
            for s in inputs.stores
        ]
        self._bags: list[PatientBags] = [read[inputs.store_index(k)] for k in range(num_folds)]
        self._files = load_files(giga, self._bags, num_folds=num_folds)
        self._seen = check_unseen(
            self._files.infos, self._plan.folds, allow_transductive=allow_transductive
        )
        self._places = role_places(self._plan.roles, inputs.patient_ids)
        self.labels: LabelDraws = draw_labels(
            inputs.targets,
            inputs.classes,
            self._places,
            percents=config.percents,
            num_draws=config.draws,
            seed=config.seed,
        )

    @property
    def num_steps(self) -> int:
        """Steps of the whole probe."""
        num_methods = 2 + bool(self._files.encoders) + (self._bags[0].colour is not None)
        heads = self.config.mil_epochs if self.config.mil else 0
        return len(self.labels.by_percent) * (num_methods + heads)

    def __iter__(self) -> Iterator[ProbeProgress]:
        """Do the work; yields after every step."""
        done = 0
        folds = np.array([self._plan.folds[p] for p in self._plan.inputs.patient_ids])
        pools = [np.concatenate(places) for places in self._places]
        found: list[MethodScores] = []
        vectors = represent(
            self._bags,
            self._files,
            training=[train for train, _ in self._places],
            num_draws=self.config.giga_draws,
            seed=self.config.seed,
        )
        for method, by_fold in vectors:
            for percent, draws in self.labels.by_percent.items():
                scores = regress(by_fold, draws, inputs=self._plan.inputs, pools=pools, folds=folds)
                found.append(_score(method, percent, draws, scores))
                done += 1
                yield ProbeProgress(steps_done=done)
        if self.config.mil:
            for percent, draws in self.labels.by_percent.items():
                for record in fit_heads(self._plan, draws, device=self._device):
                    if isinstance(record, PatientScores):
                        found.append(_score(FIT_MIL, percent, draws, record))
                    else:
                        yield ProbeProgress(steps_done=done + record)
                done += self.config.mil_epochs
                yield ProbeProgress(steps_done=done)
        self.result = self._summarise(found)

    def _summarise(self, found: Sequence[MethodScores]) -> ProbeResult:
        num_resamples, seed = self.config.resamples, self.config.seed
        return ProbeResult(
            draws=tuple(row for one in found for row in figures_of_draws(one)),
            points=tuple(
                point
                for one in found
                for point in curve_points(one, num_resamples=num_resamples, seed=seed)
            ),
            skipped=self.labels.skipped,
            leakage="transductive" if self._seen else self._plan.leakage,
            num_patients=len(self._plan.inputs.labels),
        )


def _score(
    method: str, percent: int, draws: Sequence[LabelDraw], scores: PatientScores
) -> MethodScores:
    num_labels = float(np.mean([len(draw.known) for draw in draws]))
    return MethodScores(method=method, percent=percent, num_labels=num_labels, scores=scores)
