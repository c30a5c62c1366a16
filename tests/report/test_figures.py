from pathlib import Path

import numpy as np
import pytest

from aml_mil.evaluation.attention import AttentionByType, TypeAttention
from aml_mil.evaluation.bootstrap import UNDEFINED, Interval, bootstrap_intervals
from aml_mil.evaluation.cell_map import CellMap
from aml_mil.evaluation.curves import precision_recall_curves, roc_curves
from aml_mil.report.drawing import FORMATS, PALETTE, panels, save_figure
from aml_mil.report.figures import (
    attention_figure,
    cell_map_figure,
    confusion_figure,
    curve_figure,
)
from tests.evaluation.simulated import simulate


def texts(figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def interval(value: float) -> Interval:
    return Interval(estimate=value, low=value - 0.1, high=value + 0.1)


def by_type(*names: str) -> AttentionByType:
    types = tuple(
        TypeAttention(
            cell_type=name,
            kind="malignant" if name == "blast" else None,
            attention=interval(1.5 - 0.1 * i),
            num_cells=7,
            num_patients=3,
        )
        for i, name in enumerate(names)
    )
    gap = Interval(estimate=-0.25, low=-0.5, high=0.125)
    return AttentionByType(types=types, malignant=interval(1.5), healthy=UNDEFINED, gap=gap)


def test_a_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    shown = texts(confusion_figure({"pbc": np.array([[9, 1], [3, 1]])}, ("AML", "APL")))
    for text in ("9\n90%", "1\n10%", "3\n75%", "1\n25%", "AML", "APL", "pbc"):
        assert text in shown


@pytest.mark.parametrize("kind", ["roc", "pr"])
def test_a_curve_is_named_with_its_area_and_interval(kind: str) -> None:
    scores = simulate((30, 20))
    of = roc_curves if kind == "roc" else precision_recall_curves
    areas = bootstrap_intervals(scores, num_resamples=50)["roc_auc" if kind == "roc" else "pr_auc"]
    figure = curve_figure({"pbc": of(scores)}, {"pbc": areas}, kind=kind)
    found = areas["B"]
    assert f"B {found.estimate:.2f} ({found.low:.2f}–{found.high:.2f})" in texts(figure)


def test_runs_share_the_order_of_cell_types_and_show_the_gap() -> None:
    figure = attention_figure({"a": by_type("blast", "monocyte"), "b": by_type("monocyte", "new")})
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["blast (7)", "monocyte (7)", "new"]
    assert "gap −0.25, −0.50 to +0.12" in texts(figure)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    points = {
        float(line.get_ydata()[0]): float(line.get_xdata()[0])
        for line in figure.axes[0].lines
        if line.get_marker() == "o"
    }
    assert points == {2.0: 1.5, 1.0: 1.4}


def test_rare_types_are_grey_and_counted() -> None:
    rng = np.random.default_rng(0)
    names = [f"type{i}" for i in range(len(PALETTE) + 3) for _ in range(20 - i)]
    cell_map = CellMap(
        name="pbc",
        points=rng.normal(size=(len(names), 2)),
        cell_types=tuple(names),
        silhouette=-0.2,
        knn_accuracy=0.5,
        knn_balanced_accuracy=0.25,
    )
    shown = texts(cell_map_figure([cell_map]))
    assert "silhouette −0.20, kNN 0.50 (balanced 0.25)" in shown
    assert "3 rarer types" in shown
    assert "type0" in shown


def test_a_figure_is_saved_in_three_formats_and_byte_identical_again(tmp_path: Path) -> None:
    def draw(folder: Path) -> list[bytes]:
        figure = confusion_figure({"pbc": np.array([[9, 1], [3, 1]])}, ("AML", "APL"))
        paths = save_figure(figure, folder, "figure2")
        assert [path.suffix for path in paths] == [f".{suffix}" for suffix in FORMATS]
        return [path.read_bytes() for path in paths]

    assert draw(tmp_path / "a") == draw(tmp_path / "b")


def test_four_panels_stand_two_by_two() -> None:
    figure, axes = panels(4, width=2, height=1)
    assert len(axes) == 4
    assert figure.get_size_inches().tolist() == [4, 2]


def test_drawing_leaves_the_users_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    confusion_figure({"pbc": np.array([[9, 1], [3, 1]])}, ("AML", "APL"))
    assert dict(mpl.rcParams) == before
