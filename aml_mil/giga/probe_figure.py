"""The curves of a probe: what each method is worth over the share of known labels."""

from collections.abc import Sequence
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aml_mil.report.drawing import GREY, PALETTE, panels, styled
from aml_mil.report.label_fractions import CurvePoint

METRICS = MappingProxyType({"roc_auc": "ROC-AUC, macro", "f1": "F1, macro"})
DODGE = 0.025


def draw_curves(points: Sequence[CurvePoint], *, num_patients: int) -> Figure:
    """Draw ROC-AUC and F1 of every method, mean over draws and 95% interval over test patients.

    Args:
        points: Of all methods, shares and metrics.
        num_patients: In all.
    """
    methods = list(dict.fromkeys(point.method for point in points))
    with styled():
        figure, axes = panels(len(METRICS), width=4.2, height=3.4)
        for axis, (metric, label) in zip(axes, METRICS.items(), strict=True):
            for place, method in enumerate(methods):
                own = [p for p in points if p.method == method and p.metric == metric]
                _draw_method(axis, own, place=place, num_methods=len(methods))
            _label(axis, points, label)
        axes[0].axhline(0.5, color=GREY, linewidth=0.6, linestyle=":")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
        figure.suptitle(
            f"{num_patients} patients; mean over draws of labels, bars: 95% over test patients",
            fontsize=9,
        )
    return figure


def _draw_method(axis: Axes, points: Sequence[CurvePoint], *, place: int, num_methods: int) -> None:
    shift = 1 + DODGE * (place - (num_methods - 1) / 2)
    x = [point.num_labels * shift for point in points]
    colour = GREY if points[0].method == "colour" else PALETTE[place]
    name = points[0].title
    axis.plot(x, [p.mean for p in points], marker="o", markersize=3.5, color=colour, label=name)
    for at, point in zip(x, points, strict=True):
        if point.low is not None and point.high is not None:
            axis.vlines(at, point.low, point.high, color=colour, linewidth=1, alpha=0.6)


def _label(axis: Axes, points: Sequence[CurvePoint], label: str) -> None:
    ticks = {point.num_labels: point.fraction for point in points}
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks(list(ticks), [f"{n:.0f}\n{share:.0%}" for n, share in ticks.items()])
    axis.set_xlabel("known labels")
    axis.set_title(label, loc="left")
