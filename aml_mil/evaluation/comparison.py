"""Runs side by side over the same patients and folds: Table 1, the per-class table, and the floors.

A floor is a simple predictor on the same folds. A model whose interval holds a floor has not been
shown to know more than the floor does, and that is said; nor has one that has no interval, as where
each fold tests one patient of a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, NamedTuple

from aml_mil.evaluation.assessment import Assessment, Figure, assess
from aml_mil.evaluation.bootstrap import MACRO, Interval, Intervals
from aml_mil.evaluation.differences import check_comparable, paired_intervals
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.scores import LOSSES

# The floors that look at the encoder's features; the others are the same for every run whose store
# holds the same cells.
ENCODER_FLOORS = ("mean_pooling",)
FLOOR_METRICS = ("roc_auc", "pr_auc", "f1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunToCompare:
    """What is compared.

    Attributes:
        name: As it stands in the tables.
        scores: Its test predictions.
        floors: By floor, then ``macro`` and each class, then by metric.
    """

    name: str
    scores: PatientScores
    floors: Mapping[str, Mapping[str, Mapping[str, Figure]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        name: Run or floor.
        group: ``macro`` or a class.
        is_floor: Whether it is a floor.
        figures: By metric.
        best: Metrics in which no run of the group has a better mean, or none can be told apart
            from: the paired interval of the difference holds 0, or there is none.
    """

    name: str
    group: str
    is_floor: bool
    figures: Mapping[str, Figure]
    best: frozenset[str] = frozenset()


class FloorReached(NamedTuple):
    """A floor that a run's interval does not leave below it; where it has none, any floor."""

    run: str
    floor: str
    metric: str
    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.metric} {self.value:.2f} beside no interval"
        where = "inside" if self.value <= self.high else "above"
        return f"{self.metric} {self.value:.2f} {where} {self.low:.2f} to {self.high:.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifferences:
    """First run - second run, by metric, then by class and ``macro``."""

    first: str
    second: str
    intervals: Intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that is said about several runs.

    Attributes:
        classes: Of the runs.
        assessments: By run.
        rows: Models, then floors, for ``macro`` and each class.
        floors_reached: Floors not below a run's interval.
        paired: Every pair of runs once, in the order given.
        notes: Sentences for the reader.
    """

    classes: tuple[str, ...]
    assessments: Mapping[str, Assessment]
    rows: tuple[Row, ...]
    floors_reached: tuple[FloorReached, ...]
    paired: tuple[PairedDifferences, ...]
    notes: tuple[str, ...]

    @property
    def floor_sentences(self) -> tuple[str, ...]:
        """Say of each run which floors it has not been shown to beat, and where they lie."""
        found: dict[tuple[str, str], list[str]] = {}
        for reached in self.floors_reached:
            found.setdefault((reached.run, reached.floor), []).append(str(reached))
        return tuple(
            f"{run} is not shown to beat the floor {floor}: {', '.join(figures)} "
            f"(the floor's figure, and the run's interval)"
            for (run, floor), figures in found.items()
        )

    def of_group(self, group: str) -> tuple[Row, ...]:
        """Return the rows of ``macro`` or a class."""
        return tuple(row for row in self.rows if row.group == group)


def compare_runs(runs: Sequence[RunToCompare], *, seed: int = 0) -> Comparison:
    """Compare runs over the same patients on the same folds.

    Args:
        runs: One or more, with different names.
        seed: Of the bootstrap.

    Raises:
        EvaluationError: Runs have the same name, or differ in patients, labels, classes or folds.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise EvaluationError(f"expected runs of different names, got {', '.join(names)}")
    for run in runs[1:]:
        check_comparable(runs[0].scores, run.scores, names=(names[0], run.name))
    classes = runs[0].scores.classes
    assessments = {run.name: assess(run.scores, seed=seed) for run in runs}
    paired = tuple(
        PairedDifferences(
            first=a.name, second=b.name, intervals=paired_intervals(a.scores, b.scores, seed=seed)
        )
        for a, b in combinations(runs, 2)
    )
    rows: list[Row] = []
    for group in (MACRO, *classes):
        models = _model_rows(assessments, group)
        rows += [_with_best(row, models, paired) for row in models]
        rows += _floor_rows(runs, group)
    return Comparison(
        classes=classes,
        assessments=assessments,
        rows=tuple(rows),
        floors_reached=tuple(_floors_reached(runs, assessments)),
        paired=paired,
        notes=_notes(assessments),
    )


def floors_from_json(document: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Figure]]]:
    """Read the floors of a metrics.json: by floor, then ``macro`` and each class, then metric."""
    return {
        name: {
            MACRO: _figures({k: v for k, v in floor.items() if k != "per_class"}),
            **{label: _figures(figures) for label, figures in floor.get("per_class", {}).items()},
        }
        for name, floor in document.get("floors", {}).items()
    }


def _figures(document: Mapping[str, Mapping[str, float | None]]) -> dict[str, Figure]:
    return {
        metric: Figure(
            mean=values["mean"],
            sd=values.get("sd"),
            averaged=values.get("averaged"),
            low=values.get("low"),
            high=values.get("high"),
        )
        for metric, values in document.items()
    }


def _model_rows(assessments: Mapping[str, Assessment], group: str) -> list[Row]:
    return [
        Row(
            name=name,
            group=group,
            is_floor=False,
            figures=found.macro if group == MACRO else found.per_class[group],
        )
        for name, found in assessments.items()
    ]


def _floor_rows(runs: Sequence[RunToCompare], group: str) -> list[Row]:
    rows: list[Row] = []
    for run in runs:
        for floor, figures in run.floors.items():
            is_own = len(runs) > 1 and (floor in ENCODER_FLOORS or not _is_common(floor, runs))
            name = f"{floor} ({run.name})" if is_own else floor
            if group in figures and name not in [row.name for row in rows]:
                rows.append(Row(name=name, group=group, is_floor=True, figures=figures[group]))
    return sorted(rows, key=lambda row: row.name.startswith(ENCODER_FLOORS))


def _is_common(floor: str, runs: Sequence[RunToCompare]) -> bool:
    """Whether a floor is as high for every run that has it."""
    of_runs = [run.floors[floor][MACRO] for run in runs if floor in run.floors]
    return len({tuple(found[metric].mean for metric in FLOOR_METRICS) for found in of_runs}) == 1


def _with_best(row: Row, models: Sequence[Row], paired: Sequence[PairedDifferences]) -> Row:
    """Mark the metrics in which a run is the best, or cannot be told apart from the best."""
    differences = {(p.first, p.second): p.intervals for p in paired}
    best = set()
    for metric in row.figures:
        means = {m.name: m.figures[metric].mean for m in models}
        defined = {name: mean for name, mean in means.items() if mean is not None}
        if row.name not in defined or len(models) < 2:
            continue
        leader = (min if metric in LOSSES else max)(defined, key=lambda name: defined[name])
        if row.name == leader or _is_tied(differences, row, leader, metric):
            best.add(metric)
    return Row(
        name=row.name,
        group=row.group,
        is_floor=row.is_floor,
        figures=row.figures,
        best=frozenset(best),
    )


def _is_tied(
    differences: Mapping[tuple[str, str], Intervals], row: Row, leader: str, metric: str
) -> bool:
    for pair in permutations((row.name, leader)):
        intervals = differences.get((pair[0], pair[1]), {}).get(metric, {})
        interval: Interval | None = intervals.get(row.group)
        if interval is not None and (interval.low is None or 0.0 in interval):
            return True
    return False


def _floors_reached(
    runs: Sequence[RunToCompare], assessments: Mapping[str, Assessment]
) -> list[FloorReached]:
    reached = []
    for run in runs:
        for floor, groups in run.floors.items():
            for metric in FLOOR_METRICS:
                value = groups[MACRO][metric].mean
                own = assessments[run.name].macro[metric]
                if value is None or own.averaged is None:
                    continue
                if own.low is not None and value < own.low:
                    continue
                reached.append(FloorReached(run.name, floor, metric, value, own.low, own.high))
    return reached


def _notes(assessments: Mapping[str, Assessment]) -> tuple[str, ...]:
    first = next(iter(assessments.values()))
    notes = [
        f"class {label} could not be scored in fold {fold}: no test patient has it, or all have; "
        "left out there"
        for fold, label in first.undefined
    ]
    return tuple(notes)
