import pytest

from aml_mil.evaluation.assessment import Figure
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.comparison import Comparison, Row, RunToCompare, compare_runs
from aml_mil.report.tables import (
    CSV_HEADER,
    csv_rows,
    paired_table,
    per_class_table,
    table_1,
)
from tests.evaluation.simulated import simulate


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    good, poor = simulate((30, 20), separation=3.0), simulate((30, 20), separation=0.2, seed=3)
    colour = {MACRO: {m: Figure(mean=0.625, sd=0.05) for m in ("f1", "roc_auc", "pr_auc")}}
    runs = [
        RunToCompare(name="pbc_v1", scores=good, floors={"colour": colour}),
        RunToCompare(name="random", scores=poor, floors={}),
    ]
    return compare_runs(runs)


def test_table_1_has_models_floors_and_the_best_in_bold(comparison: Comparison) -> None:
    lines = table_1(comparison, style="markdown").splitlines()
    assert [c.strip() for c in lines[0].strip("|").split("|")] == [
        "model", "F1", "ROC-AUC", "PR-AUC",
    ]  # fmt: skip
    assert lines[2].count("**") == 6
    assert "**" not in lines[3]
    assert "floor: colour" in lines[4]
    assert "0.62 ± 0.05" in lines[4]


def test_latex_escapes_what_latex_would_read(comparison: Comparison) -> None:
    latex = table_1(comparison, style="latex")
    assert r"pbc\_v1" in latex
    assert r"\textbf{" in latex
    assert r"$\pm$" in latex
    assert "±" not in latex
    assert latex.startswith(r"\begin{tabular}")


def test_the_per_class_table_names_every_class_and_run(comparison: Comparison) -> None:
    body = per_class_table(comparison, style="text").splitlines()[2:]
    assert [line.split()[:2] for line in body] == [
        ["A", "pbc_v1"], ["A", "random"], ["B", "pbc_v1"], ["B", "random"],
    ]  # fmt: skip


def test_the_paired_table_shows_the_signed_difference(comparison: Comparison) -> None:
    found = comparison.paired[0].intervals["roc_auc"][MACRO]
    line = paired_table(comparison.paired, style="text").splitlines()[2]
    assert line.startswith("pbc_v1 − random")
    assert f"{found.estimate:+.2f}, {found.low:+.2f} to {found.high:+.2f}" in line


def test_csv_holds_every_figure_to_the_last_bit(comparison: Comparison) -> None:
    rows = [dict(zip(CSV_HEADER, row, strict=True)) for row in csv_rows(comparison)]
    (row,) = (
        r for r in rows if (r["name"], r["group"], r["metric"]) == ("pbc_v1", "A", "precision")
    )
    figure = comparison.assessments["pbc_v1"].per_class["A"]["precision"]
    assert float(str(row["mean"])) == figure.mean
    assert float(str(row["high"])) == figure.high
    floor = next(r for r in rows if r["kind"] == "floor")
    assert (floor["low"], floor["best"]) == ("", "")


def test_a_single_run_has_nothing_in_bold() -> None:
    rows: tuple[Row, ...] = compare_runs(
        [RunToCompare(name="a", scores=simulate(), floors={})]
    ).rows
    assert not any(row.best for row in rows)
