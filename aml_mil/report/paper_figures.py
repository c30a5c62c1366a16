"""All figures of the paper for several runs, drawn into a folder."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from aml_mil.evaluation.bootstrap import bootstrap_intervals
from aml_mil.evaluation.confusion import confusion
from aml_mil.evaluation.curves import precision_recall_curves, roc_curves
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.kinds import Kind
from aml_mil.evaluation.run import OpenRun
from aml_mil.report.drawing import FORMATS, save_figure
from aml_mil.report.figures import (
    attention_figure,
    cell_map_figure,
    confusion_figure,
    curve_figure,
)


def draw_paper_figures(
    runs: Mapping[str, OpenRun],
    folder: Path,
    *,
    kinds: Mapping[str, Kind] | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Draw figures 2 to 5, and figure 3's precision-recall counterpart.

    Args:
        runs: By the name they are shown under.
        folder: Made if missing.
        kinds: Kind by cell type; the shipped tables if not given.
        seed: Of the bootstrap and the UMAP.

    Yields:
        A sentence for every figure: where it is, or why it could not be drawn.
    """
    classes = next(iter(runs.values())).classes

    def curves(kind: str) -> Figure:
        of = roc_curves if kind == "roc" else precision_recall_curves
        metric = "roc_auc" if kind == "roc" else "pr_auc"
        return curve_figure(
            {name: of(run.scores, seed=seed) for name, run in runs.items()},
            {
                name: bootstrap_intervals(run.scores, seed=seed)[metric]
                for name, run in runs.items()
            },
            kind=kind,
        )

    figures: dict[str, Callable[[], Figure]] = {
        "figure2_confusion": lambda: confusion_figure(
            {name: confusion(run.scores, seed=run.scores.seeds[0]) for name, run in runs.items()},
            classes,
        ),
        "figure3_roc": lambda: curves("roc"),
        "figure3_pr": lambda: curves("pr"),
        "figure4_attention": lambda: attention_figure(
            {name: run.attention_by_type(kinds) for name, run in runs.items()}
        ),
        "figure5_cells": lambda: cell_map_figure(
            [run.cell_map(name=name, seed=seed) for name, run in runs.items()]
        ),
    }
    for name, draw in figures.items():
        try:
            save_figure(draw(), folder, name)
        except EvaluationError as error:
            yield f"{name} left out: {error}"
        else:
            yield f"{folder / name}.{{{','.join(FORMATS)}}}"
