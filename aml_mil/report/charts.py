"""The interactive charts of the report, as Bokeh figures; `charts.js` gives them their colours.

What is drawn in the colour of the text is named ``ink``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, HoverTool, Legend, Range1d
from bokeh.plotting import figure

from aml_mil.evaluation.attention import AttentionByType
from aml_mil.evaluation.bootstrap import Interval
from aml_mil.evaluation.curves import Curve
from aml_mil.report.drawing import GREY, KIND_COLOURS, PALETTE
from aml_mil.report.label_fractions import CurvePoint
from aml_mil.report.numbers import format_interval

FloatArray = npt.NDArray[np.float64]

# Without black, which a dark page swallows; shapes say the same as colours.
COLOURS = tuple(colour for colour in PALETTE if colour != "#000000")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star")
MAX_ENTRY = 36  # in a wide font, that fits a phone
# Between methods at one number of labels, so that their bars stand beside each other.
METHOD_SHIFT = 0.02
CELL_TOOLTIP = """
<div style="display:flex;flex-wrap:wrap;gap:0 10px;max-width:min(290px,42vw);
font-size:13px;line-height:1.4">
<img src="@picture" alt="" width="96" height="96" style="border-radius:4px;background:#8884">
<div style="overflow-wrap:anywhere;flex:1 1 110px;min-width:0">
<b>@cell_type</b><br>@patient (@label)<br>@name<br>
attention for @label: @attention{0.0}×</div>
</div>
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappedCells:
    """Cells in the plane with what is said when one is pointed at; all columns of one length."""

    points: FloatArray
    groups: Sequence[str]
    cell_types: Sequence[str]
    patients: Sequence[str]
    labels: Sequence[str]
    names: Sequence[str]
    attention: Sequence[float]
    pictures: Sequence[str]


def curve_chart(curves: Sequence[Curve], areas: Mapping[str, Interval], *, kind: str) -> Any:
    """Draw each class's mean ROC or precision-recall curve with its 95% band.

    Args:
        curves: Of every class.
        areas: Area under the curve by class.
        kind: ``roc`` or ``pr``.
    """
    titles = {
        "roc": ("false positive rate", "true positive rate"),
        "pr": ("recall", "precision"),
    }[kind]
    plot = _figure(height=420, x_range=(-0.02, 1.02), y_range=(-0.02, 1.02))
    plot.xaxis.axis_label, plot.yaxis.axis_label = titles
    if kind == "roc":
        plot.line([0, 1], [0, 1], color=GREY, line_dash="dashed")
    entries = []
    for c, curve in enumerate(curves):
        if not curve.num_folds:
            continue
        colour, dash = COLOURS[c % len(COLOURS)], ("solid", "dashed", "dotdash", "dotted")[c % 4]
        band = plot.varea(curve.x, curve.low, curve.high, color=colour, alpha=0.15)
        columns = {"x": curve.x, "y": curve.y, "label": [curve.label] * len(curve.x)}
        line = plot.line(
            "x", "y", source=ColumnDataSource(columns), color=colour, line_width=2.5, line_dash=dash
        )
        found = areas[curve.label]
        area = format_interval(found.estimate, found.low, found.high)
        label = shorten(curve.label, MAX_ENTRY - len(area) - 1)
        entries.append((f"{label} {area}", [line, band]))
        tips = [("class", "@label"), (titles[0], "@x{0.00}"), (titles[1], "@y{0.00}")]
        plot.add_tools(HoverTool(renderers=[line], tooltips=tips))
    _add_legend(plot, entries)
    return plot


def history_chart(epochs: Mapping[str, Sequence[tuple[FloatArray, FloatArray]]]) -> Any:
    """Draw the loss of every head over the epochs; spikes of diverging heads are cut off.

    Args:
        epochs: By name of the loss, of each head: epochs and losses.
    """
    plot = _figure(height=340)
    plot.xaxis.axis_label, plot.yaxis.axis_label = "epoch", "loss"
    highest = np.nanquantile(np.concatenate([y for of in epochs.values() for _, y in of]), 0.98)
    plot.y_range = Range1d(0, float(highest) * 1.3)
    entries = []
    for (name, lines), colour in zip(epochs.items(), COLOURS, strict=False):
        drawn = plot.multi_line(
            [x.tolist() for x, _ in lines],
            [y.tolist() for _, y in lines],
            color=colour,
            alpha=0.55,
            line_dash="solid" if name.startswith("training") else "dashed",
        )
        entries.append((name, [drawn]))
    _add_legend(plot, entries)
    return plot


def attention_chart(by_type: AttentionByType) -> Any:
    """Draw mean attention by cell type with its interval, coloured by kind."""
    names = [f"{t.cell_type} ({t.num_cells})" for t in by_type.types]
    plot = _figure(height=80 + 26 * len(names), y_range=names[::-1])
    plot.xaxis.axis_label = "attention (1 = the patient's average cell)"
    plot.ygrid.visible = False
    kinds = {"malignant": "", "healthy": "/", "other": "x"}
    for kind, hatch in kinds.items():
        rows = [i for i, t in enumerate(by_type.types) if (t.kind or "other") == kind]
        if not rows:
            continue
        found = [by_type.types[i] for i in rows]
        source = ColumnDataSource(
            {
                "name": [names[i] for i in rows],
                "value": [t.attention.estimate or 0.0 for t in found],
                "low": [_or_estimate(t.attention.low, t.attention) for t in found],
                "high": [_or_estimate(t.attention.high, t.attention) for t in found],
                "text": [
                    format_interval(t.attention.estimate, t.attention.low, t.attention.high)
                    for t in found
                ],
                "patients": [t.num_patients for t in found],
            }
        )
        bars = plot.hbar(
            y="name",
            right="value",
            height=0.7,
            source=source,
            color=KIND_COLOURS[kind],
            alpha=0.85,
            hatch_pattern=hatch or None,
            hatch_color="#ffffff",
            hatch_alpha=0.35,
            legend_label=kind,
        )
        plot.segment(
            x0="low", x1="high", y0="name", y1="name", source=source, line_width=1.5, name="ink"
        )
        tips = [
            ("cell type", "@name"),
            ("attention", "@text"),
            ("patients", "@patients"),
        ]
        plot.add_tools(HoverTool(renderers=[bars], tooltips=tips))
    plot.legend.background_fill_alpha = 0
    plot.legend.border_line_alpha = 0
    plot.add_layout(plot.legend[0], "above")
    plot.legend.orientation = "horizontal"
    return plot


def cell_map_chart(cells: MappedCells) -> Any:
    """Draw cells in the plane; pointing at one shows its picture, the legend hides a group."""
    plot = _figure(height=560, columns=1, tools="pan,wheel_zoom,box_zoom,reset")
    plot.axis.visible = False
    plot.grid.visible = False
    plot.toolbar.active_drag = None
    plot.toolbar_location = "above"
    groups = np.array(cells.groups)
    named = [name for name, _ in Counter(cells.groups).most_common(len(COLOURS))]
    columns = {
        "x": cells.points[:, 0].astype(np.float32),
        "y": cells.points[:, 1].astype(np.float32),
        "cell_type": np.array(cells.cell_types, dtype=object),
        "patient": np.array(cells.patients, dtype=object),
        "label": np.array(cells.labels, dtype=object),
        "name": np.array(cells.names, dtype=object),
        "attention": np.array(cells.attention, dtype=np.float32),
        "picture": np.array(cells.pictures, dtype=object),
    }
    styles = dict(zip(named, zip(COLOURS, MARKERS, strict=True), strict=False))
    rest = ~np.isin(groups, named)
    parts = [(f"rarer ({len(set(groups[rest].tolist()))})", rest, (GREY, "circle"))]
    parts += [(name, groups == name, style) for name, style in styles.items()]
    entries, renderers = [], []
    for name, chosen, (colour, marker) in parts:
        if not chosen.any():
            continue
        data = {key: values[chosen].tolist() for key, values in columns.items()}
        data |= {key: columns[key][chosen] for key in ("x", "y", "attention")}
        drawn = plot.scatter(
            "x",
            "y",
            source=ColumnDataSource(data),
            marker=marker,
            size=6,
            color=colour,
            alpha=0.75,
            line_alpha=0,
        )
        renderers.append(drawn)
        entries.append((f"{name} ({int(chosen.sum())})", [drawn]))
    plot.add_tools(
        HoverTool(renderers=renderers, tooltips=CELL_TOOLTIP, limit=1, attachment="horizontal")
    )
    _add_legend(plot, entries[1:] + entries[:1] if rest.any() else entries)
    return plot


def label_fraction_chart(points: Sequence[CurvePoint]) -> Any:
    """Draw every method's ROC-AUC over the number of known labels."""
    own = [point for point in points if point.metric == "roc_auc"]
    plot = _figure(height=360, x_axis_type="log")
    plot.xaxis.axis_label, plot.yaxis.axis_label = "known labels", "ROC-AUC, macro"
    ticks = {point.num_labels: f"{point.num_labels:.0f} ({point.fraction:.0%})" for point in own}
    plot.xaxis.ticker = sorted(ticks)
    plot.xaxis.major_label_overrides = ticks
    entries = []
    methods = list(dict.fromkeys(point.title for point in own))
    for place, (method, colour, marker) in enumerate(zip(methods, COLOURS, MARKERS, strict=False)):
        shift = 1 + METHOD_SHIFT * (place - (len(methods) - 1) / 2)
        found = [point for point in own if point.title == method]
        source = ColumnDataSource(
            {
                "x": [point.num_labels * shift for point in found],
                "y": [point.mean for point in found],
                "low": [point.mean if point.low is None else point.low for point in found],
                "high": [point.mean if point.high is None else point.high for point in found],
                "label": [method] * len(found),
            }
        )
        line = plot.line("x", "y", source=source, color=colour, line_width=2)
        dots = plot.scatter("x", "y", source=source, marker=marker, size=9, color=colour)
        bars = plot.segment(
            x0="x", x1="x", y0="low", y1="high", source=source, color=colour, alpha=0.6
        )
        entries.append((method, [line, dots, bars]))
        tips = [("method", "@label"), ("ROC-AUC", "@y{0.00} (@low{0.00}–@high{0.00})")]
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    _add_legend(plot, entries)
    return plot


def shorten(text: str, length: int) -> str:
    """Cut a text that is longer than so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _figure(*, height: int, columns: int = 2, tools: str = "", **ranges: Any) -> Any:
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        # How many charts stand beside each other, for the columns of the legend.
        tags=[columns],
        tools=tools,
        toolbar_location=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **ranges,
    )
    plot.toolbar.logo = None
    plot.xgrid.grid_line_alpha = plot.ygrid.grid_line_alpha = 0.6
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = plot.axis.major_label_text_font_size = "13px"
    return plot


def _add_legend(plot: Any, entries: Sequence[tuple[str, list[Any]]]) -> None:
    items = [(shorten(text, MAX_ENTRY), drawn) for text, drawn in entries]
    legend = Legend(
        items=items,
        location="left",
        ncols=1,
        click_policy="hide",
        background_fill_alpha=0,
        border_line_alpha=0,
        label_text_font_size="13px",
        padding=4,
    )
    plot.add_layout(legend, "below")


def _or_estimate(value: float | None, interval: Interval) -> float:
    return value if value is not None else interval.estimate or 0.0
