"""Tables of a study in Markdown: every model beside what it must beat, with paired intervals."""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.bootstrap import MACRO, Interval
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.metrics import METRICS
from aml_mil.evaluation.patients import PatientScores
from aml_mil.report.numbers import format_figure_with_interval, signed_interval
from aml_mil.report.tables import METRIC_TITLES, PER_CLASS_METRICS

CAPTION = (
    "Mean ± s.d. over folds × seeds (95% interval over patients, seeds averaged). Last columns: "
    "difference of the ROC-AUC on the same patients, 95% interval."
)

Models = Mapping[str, PatientScores]


def model_table(
    models: Models, baselines: Models, *, extra: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Lay out macro figures, and how far each row's ROC-AUC is from each baseline's.

    Args:
        models: Test predictions by title.
        baselines: What they must beat; rows of their own, below, unless they are models too.
        extra: Further columns: by title of the column, then of the row.
    """
    extra = extra or {}
    header = ["model", *(METRIC_TITLES[m] for m in METRICS)]
    header += [f"ROC-AUC − {name}" for name in baselines]
    rows = []
    for title, scores in {**models, **baselines}.items():
        found = assess(scores).macro
        row = [title, *(format_figure_with_interval(found[m]) for m in METRICS)]
        row += [
            "" if scores is theirs else signed_interval(roc_auc_difference(scores, theirs))
            for theirs in baselines.values()
        ]
        rows.append([*row, *(cells.get(title, "") for cells in extra.values())])
    return markdown(rows, [*header, *extra])


def per_class_table(models: Models, baselines: Models) -> str:
    """Lay out the figures of each class, and the paired differences of its ROC-AUC."""
    everything = {**models, **baselines}
    assessed = {title: assess(scores).per_class for title, scores in everything.items()}
    header = ["class", "model", *(METRIC_TITLES[m] for m in PER_CLASS_METRICS)]
    rows = []
    for label in next(iter(everything.values())).classes:
        for title, scores in everything.items():
            figures = assessed[title][label]
            row = [label, title]
            row += [format_figure_with_interval(figures[m]) for m in PER_CLASS_METRICS]
            row += [
                ""
                if scores is theirs
                else signed_interval(roc_auc_difference(scores, theirs, label))
                for theirs in baselines.values()
            ]
            rows.append(row)
    return markdown(rows, [*header, *(f"ROC-AUC − {name}" for name in baselines)])


def roc_auc_difference(first: PatientScores, second: PatientScores, label: str = MACRO) -> Interval:
    """Put an interval around first - second over the same patients."""
    return paired_intervals(first, second)["roc_auc"][label]


def say_difference(title: str, interval: Interval, baseline: str) -> str:
    """Say in words what a model adds to a baseline."""
    if interval.estimate is None or interval.low is None or interval.high is None:
        return f"What {title} adds to {baseline} cannot be computed."
    numbers = f"{interval.estimate:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
    if 0.0 in interval:
        return f"That {title} adds anything to {baseline} is **not shown**: {numbers}."
    verdict = "adds to" if interval.low > 0 else "is worse than"
    return f"{title[:1].upper()}{title[1:]} **{verdict}** {baseline}: {numbers}."


def cell_of(row: Mapping[str, float | None], name: str, ends: str, *, sign: str = "") -> str:
    """Write a figure and its interval, `ends_low` to `ends_high`, as far as they are defined."""
    value, low, high = (row.get(key) for key in (name, f"{ends}_low", f"{ends}_high"))
    if value is None:
        return ""
    interval = "" if low is None or high is None else f" ({low:{sign}.2f} to {high:{sign}.2f})"
    return f"{value:{sign}.2f}{interval}"


def markdown(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Lay out a table in Markdown."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return tabulate(escaped, headers=list(header), tablefmt="pipe", disable_numparse=True)
