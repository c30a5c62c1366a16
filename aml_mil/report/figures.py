"""Figures 2 to 5 of the paper, of any runs. Each function returns a figure; none shows it.

Shapes: C classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aml_mil.evaluation.attention import AttentionByType
from aml_mil.evaluation.bootstrap import UNDEFINED, Interval
from aml_mil.evaluation.cell_map import CellMap
from aml_mil.evaluation.curves import Curve
from aml_mil.report.drawing import GREY, KIND_COLOURS, PALETTE, panels, styled
from aml_mil.report.numbers import format_interval, format_number, signed_interval

MAX_NAMED_TYPES = len(PALETTE)
SHORT_NAME = 6  # names of so many letters fit below a column


@styled()
def confusion_figure(
    matrices: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]
) -> Figure:
    """Draw figure 2: a confusion matrix for each run.

    Args:
        matrices: Patients by true (rows) and predicted (columns) class, [C, C], by run.
        classes: C names.
    """
    side = 1.6 + 0.62 * len(classes)
    figure, axes = panels(len(matrices), width=side + 0.2, height=side)
    for ax, (name, counts) in zip(axes, matrices.items(), strict=True):
        _draw_confusion(ax, counts, classes)
        ax.set_title(_wrap(name))
    return figure


@styled()
def curve_figure(
    curves: Mapping[str, Sequence[Curve]],
    areas: Mapping[str, Mapping[str, Interval]],
    *,
    kind: str = "roc",
) -> Figure:
    """Draw figure 3: each class's mean curve with its 95% band, one panel a run.

    Args:
        curves: By run, of every class.
        areas: By run, then by class: the area under the curve.
        kind: ``roc`` or ``pr``.
    """
    figure, axes = panels(len(curves), width=4.0, height=4.0)
    for ax, (name, of_run) in zip(axes, curves.items(), strict=True):
        for c, curve in enumerate(of_run):
            colour = PALETTE[c % len(PALETTE)]
            step = {"roc": "default", "pr": "steps-pre"}[kind]
            area = areas[name][curve.label]
            label = f"{curve.label} {format_interval(area.estimate, area.low, area.high)}"
            start = {"roc": [0.0], "pr": []}[kind]  # the rise at a false positive rate of 0
            x, y = ([*start, *values] for values in (curve.x, curve.y))
            ax.plot(x, y, color=colour, drawstyle=step, lw=1.6, label=label)
            ax.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.12, lw=0)
        if kind == "roc":
            ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=(0, (4, 3)))
            ax.set(xlabel="false positive rate", ylabel="true positive rate")
        else:
            ax.set(xlabel="recall", ylabel="precision")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set_title(_wrap(name))
        ax.legend(
            loc="lower right" if kind == "roc" else "lower left",
            fontsize=8,
            title="area (95% interval)",
            title_fontsize=8,
        )
    return figure


@styled()
def attention_figure(found: Mapping[str, AttentionByType]) -> Figure:
    """Draw figure 4: mean attention by cell type, malignant against healthy, one panel a run."""
    order = _common_order(found)
    width = 2.6 + (2.2 if len(found) == 1 else 0.6)
    figure, axes = panels(len(found), width=width, height=1.9 + 0.22 * len(order), max_columns=2)
    for place, (ax, (name, by_type)) in enumerate(zip(axes, found.items(), strict=True)):
        _draw_attention(ax, by_type, order)
        ax.set_xlim(_attention_limits(found))
        if place % 2 == 1:
            ax.set_yticklabels([])
        gap = signed_interval(by_type.gap).replace("-", "−")
        ax.set_title(f"{_wrap(name)}\ngap {gap}")
    present = {t.kind or "other" for by_type in found.values() for t in by_type.types}
    handles = [
        Line2D([], [], color=colour, marker="o", ms=5.5, lw=1.6, label=kind)
        for kind, colour in KIND_COLOURS.items()
        if kind in present
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title="95% intervals over patients; gap: malignant − healthy",
        title_fontsize=8,
    )
    return figure


@styled()
def cell_map_figure(maps: Sequence[CellMap]) -> Figure:
    """Draw figure 5: the annotated cells in the plane, coloured by type, one panel an encoder."""
    figure, axes = panels(len(maps), width=4.4, height=4.4)
    counts = Counter(t for cell_map in maps for t in cell_map.cell_types)
    named = [t for t, _ in counts.most_common(MAX_NAMED_TYPES)]
    colours = dict(zip(named, PALETTE, strict=False))
    for ax, cell_map in zip(axes, maps, strict=True):
        types = np.array(cell_map.cell_types)
        rare = ~np.isin(types, named)
        rest = cell_map.points[rare]
        ax.scatter(rest[:, 0], rest[:, 1], s=5, color=GREY, marker=".", lw=0, alpha=0.6)
        for name, colour in colours.items():
            points = cell_map.points[types == name]
            ax.scatter(points[:, 0], points[:, 1], s=7, color=colour, lw=0, alpha=0.6)
        ax.set(xticks=[], yticks=[])
        ax.spines[["left", "bottom"]].set_visible(False)
        value = cell_map.silhouette
        silhouette = format_number(value).replace("-", "−")
        ax.set_title(
            f"{_wrap(cell_map.name)}\nsilhouette {silhouette}, kNN {cell_map.knn_accuracy:.2f} "
            f"(balanced {cell_map.knn_balanced_accuracy:.2f})"
        )
    handles = [
        Line2D([], [], color=colour, marker="o", ls="", ms=5, label=name)
        for name, colour in colours.items()
    ]
    if len(counts) > len(named):
        rarer = f"{len(counts) - len(named)} rarer types"
        handles.append(Line2D([], [], color=GREY, marker=".", ls="", ms=6, label=rarer))
    columns = 2 if len(maps) == 1 else 4
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def _draw_confusion(ax: Axes, counts: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        share = shares[row, column]
        ax.text(
            column,
            row,
            f"{counts[row, column]}\n{share:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.55 else "black",
        )
    ticks = range(len(classes))
    if max(map(len, classes)) <= SHORT_NAME:
        ax.set_xticks(ticks, classes)
    else:
        ax.set_xticks(ticks, [_break(c) for c in classes], rotation=35, ha="right")
    ax.set_yticks(ticks, [_break(c) for c in classes])
    for edge in range(1, len(classes)):  # equal shares side by side must not run together
        ax.axhline(edge - 0.5, color="white", lw=1.5)
        ax.axvline(edge - 0.5, color="white", lw=1.5)
    ax.set(xlabel="predicted", ylabel="true")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _common_order(found: Mapping[str, AttentionByType]) -> list[str]:
    """Order the cell types as the first run does, so that runs can be read across."""
    names = [t.cell_type for by_type in found.values() for t in by_type.types]
    return list(dict.fromkeys(names))


def _draw_attention(ax: Axes, by_type: AttentionByType, order: Sequence[str]) -> None:
    types = {t.cell_type: t for t in by_type.types}
    ticks = range(len(order))[::-1]
    for row, cell_type in zip(ticks, order, strict=True):
        ax.axhline(row, color="#EDEDED", lw=0.8, zorder=0)
        interval = types[cell_type].attention if cell_type in types else UNDEFINED
        if interval.estimate is None:
            continue
        colour = KIND_COLOURS[types[cell_type].kind or "other"]
        if interval.low is not None and interval.high is not None:
            ax.plot([interval.low, interval.high], [row, row], color=colour, lw=1.6)
        ax.plot([interval.estimate], [row], color=colour, marker="o", ms=5.5, ls="")
    counts = {t: f"{t} ({types[t].num_cells})" if t in types else t for t in order}
    ax.set_yticks(ticks, [counts[t] for t in order])
    ax.axvline(1, color="black", lw=0.8, ls=(0, (4, 3)), zorder=1)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel("attention (1 = average cell)")


def _attention_limits(found: Mapping[str, AttentionByType]) -> tuple[float, float]:
    """Return one range for all panels, so that runs can be read across; it holds 0.8 to 1.2."""
    shown = [
        value
        for by_type in found.values()
        for t in by_type.types
        for value in (t.attention.low, t.attention.estimate, t.attention.high)
        if value is not None
    ]
    low, high = min([0.8, *shown]), max([1.2, *shown])
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _wrap(name: str) -> str:
    return name if len(name) <= 40 else f"…{name[-39:]}"


def _break(name: str) -> str:
    """Break a long class name at its first underscore."""
    return name.replace("_", "_\n", 1) if len(name) > 12 else name
