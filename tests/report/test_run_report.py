import base64
import hashlib
import html
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort import read_cohort
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.run import open_run
from aml_mil.giga.probe import ProbeResult
from aml_mil.giga.probe_files import write_probe
from aml_mil.report import run_patients, run_report
from aml_mil.report.label_fractions import CurvePoint
from aml_mil.report.run_report import Report, build_report
from cli.main import main
from tests.command_line import RunCommand
from tests.report.conftest import EVIL_LABEL, EVIL_PATIENT, EVIL_TYPE, EvilRun


@pytest.fixture(autouse=True)
def _without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take two features for the map: UMAP takes seconds to import."""
    monkeypatch.setattr(run_report, "lay_out", lambda features, seed: features[:, :2].astype(float))


def build(run_path: Path, cohort: Path | None = None) -> Report:
    loaded = None if cohort is None else read_cohort(cohort)
    *_, report = build_report(open_run(run_path), cohort=loaded)
    assert isinstance(report, Report)
    return report


@pytest.fixture(scope="module")
def page(evil: EvilRun) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "lay_out", lambda features, seed: features[:, :2].astype(float))
        return build(evil.run, evil.cohort).html


@pytest.mark.parametrize("text", [EVIL_PATIENT, EVIL_LABEL, EVIL_TYPE])
def test_markup_in_ids_labels_and_cell_types_stays_text(page: str, text: str) -> None:
    assert html.escape(text) in page
    assert text not in page
    assert json.dumps(text).replace("<", "\\u003c")[1:-1] in page


def test_only_our_scripts_may_run_and_nothing_may_be_loaded(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    allowed = re.search(r"script-src ([^;]*);", html.unescape(page)).group(1).split()
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    ]
    assert allowed == hashes
    assert "default-src 'none'; img-src data:;" in html.unescape(page)
    loaded = re.findall(
        r'(?:src|href)="([^"]*)"', re.sub(r"<script.*?</script>", "", page, flags=re.S)
    )
    assert loaded
    assert all(link.startswith(("#", "data:")) for link in loaded)


def test_wrong_predictions_come_first_then_the_least_certain(evil: EvilRun, page: str) -> None:
    scores = open_run(evil.run).scores
    mean = scores.probabilities.mean(axis=0)
    certainty = mean[np.arange(len(mean)), scores.targets]
    is_wrong = mean.argmax(axis=1) != scores.targets
    expected = sorted(range(len(mean)), key=lambda i: (not is_wrong[i], certainty[i]))
    shown = re.findall(r'<h1 id="name-\d+">(.*?)</h1>', page)
    assert [html.unescape(name) for name in shown] == [scores.patient_ids[i] for i in expected]
    assert page.count("(wrong)") == is_wrong.sum()


def test_a_sure_mistake_of_three_classes_precedes_an_unsure_success() -> None:
    rows = [[0.35, 0.33, 0.32], [0.40, 0.45, 0.15], [0.10, 0.60, 0.30]]
    scores = PatientScores(
        classes=("a", "b", "c"),
        patient_ids=("unsure", "mistaken", "sure"),
        targets=np.array([0, 0, 1]),
        folds=np.zeros(3, dtype=np.int64),
        seeds=(0,),
        probabilities=np.array([rows]),
    )
    assert run_patients.wrong_first(scores) == [1, 0, 2]


def test_the_figures_are_those_of_the_run(evil: EvilRun, page: str) -> None:
    auc = json.loads((evil.run / "metrics.json").read_text())["macro"]["roc_auc"]
    assert f"{auc['mean']:.2f} ± {auc['sd']:.2f} ({auc['low']:.2f}–{auc['high']:.2f})" in page
    assert "floor: colour" in page
    store = json.loads((evil.run / "config.json").read_text())["stores"][0]
    for value in (store["weights_sha256"], store["identity_sha256"], store["bags_sha256"]):
        assert value in page


def test_every_gallery_shows_the_most_attended_cells(evil: EvilRun, page: str) -> None:
    run = open_run(evil.run)
    article = page[page.index(f'">{html.escape(EVIL_PATIENT)}</h1>') :].split("</article>")[0]
    names = re.findall(r'<span class="soft">(.*?)</span>', article)
    expected = [
        cell.instance_id
        for label in run.classes
        for cell in run.explain(EVIL_PATIENT).most_attended(label, run_patients.GALLERY_CELLS)
    ]
    assert names == expected
    assert article.count("data:image/webp;base64,") == len(expected)


def test_without_a_cohort_there_are_no_pictures_and_that_is_said(evil: EvilRun) -> None:
    report = build(evil.run)
    assert "data:image/webp" not in report.html
    assert "Cells that counted most for" in report.html
    assert any("no cohort was given" in note for note in report.notes)


def test_pictures_of_another_cohort_are_missed(evil: EvilRun, tmp_path: Path) -> None:
    rows = evil.cohort.read_text().replace("\nP01,", "\nQ01,")
    (tmp_path / "cells.csv").write_text(rows)
    notes = build(evil.run, tmp_path / "cells.csv").notes
    assert any("pictures were not found" in note for note in notes)


def test_a_cohort_of_other_patients_is_refused_at_once(evil: EvilRun, tmp_path: Path) -> None:
    header, *rows = evil.cohort.read_text().splitlines()
    patient = header.split(",").index("patient_id")
    assert patient == 0
    (tmp_path / "cells.csv").write_text("\n".join([header, *(f"Q{row}" for row in rows)]))
    with pytest.raises(EvaluationError, match="none of the run's patients is in"):
        build(evil.run, tmp_path / "cells.csv")


def test_figures_that_cannot_be_computed_are_not_said_to_lie_above_the_floors(
    evil: EvilRun,
) -> None:
    run = open_run(evil.run)
    run.scores = replace(run.scores, folds=run.scores.targets)
    *_, report = build_report(run)
    assert isinstance(report, Report)
    assert "All figures lie above the floors" not in report.html


def test_a_run_whose_store_is_gone_still_has_a_report(evil: EvilRun, tmp_path: Path) -> None:
    run = Path(shutil.copytree(evil.run, tmp_path / "run"))
    document = json.loads((run / "config.json").read_text())
    document["stores"][0]["path"] = str(tmp_path / "gone.zarr")
    (run / "config.json").write_text(json.dumps(document))
    report = build(run, evil.cohort)
    assert any("cells are not shown" in note and "gone.zarr" in note for note in report.notes)
    assert report.html.count("<article") == 24


def test_galleries_and_map_are_bounded(evil: EvilRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_patients, "MAX_GALLERY_CELLS", 5 * 2 * run_patients.GALLERY_CELLS)
    monkeypatch.setattr(run_patients, "MAX_MAP_CELLS", 50)
    report = build(evil.run, evil.cohort)
    assert report.html.count("data:image/webp") == 5 * 2 * run_patients.GALLERY_CELLS + 50
    assert any("galleries are shown of 5 of 24 patients" in note for note in report.notes)


def test_results_of_stress_and_probe_are_shown_where_they_lie_in_the_run(
    evil: EvilRun, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(evil.run, tmp_path / "run"))
    figures = {"macro": {m: {"averaged": 0.75} for m in ("f1", "roc_auc", "pr_auc")}}
    change = {m: {"macro": {"estimate": -0.2, "low": -0.3, "high": -0.1}} for m in figures["macro"]}
    fall = {**figures, "amount": "strong", "difference": change}
    document = {"unchanged": figures, "perturbations": {"hue": fall}, "sentences": ["it falls"]}
    (run / "stress.json").write_text(json.dumps(document))
    at = {"method": "giga", "fraction": 0.05, "num_labels": 3.0, "sd": None}
    points = tuple(
        CurvePoint(**at, metric=metric, mean=0.61, low=0.52, high=0.70)
        for metric in ("roc_auc", "f1")
    )
    result = ProbeResult(draws=(), points=points, num_patients=24, skipped={}, leakage="none")
    write_probe(run, result, about={})
    found = build(run).html
    assert "<td>0.75 (-0.20, -0.30 to -0.10)</td>" in found
    assert "Stress test: it falls." in found
    assert "Giga-SSL + logistic regression" in found
    assert "<td>0.61 (0.52–0.70)</td>" in found
    (run / "stress.json").write_text("[]")
    with pytest.raises(EvaluationError, match=r"stress\.json is not as .* run stress again"):
        build(run)


def test_the_command_given_for_the_fit_is_the_runs_own(
    evil: EvilRun, page: str, command: RunCommand
) -> None:
    (line,) = re.findall(r"aml-mil (fit-mil .*)", page)
    done = command(*shlex.split(html.unescape(line)))
    assert done.code == 0
    assert "holds this very run already" in done.err


def test_the_command_writes_the_file(evil: EvilRun, command: RunCommand, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = command("report", evil.run, "--cohort", evil.cohort, "--out", out)
    assert done.code == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "24 patients" in done.err
    assert main(["report", str(evil.run), "--out", str(tmp_path / "no" / "r.html")]) == 2


def test_the_command_speaks_json(evil: EvilRun, command: RunCommand, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    document = command("report", evil.run, "--out", out, "--json").json
    assert document["report"] == str(out)
    assert document["num_bytes"] == out.stat().st_size
    assert document["num_patients"] == 24
    assert any("no cohort was given" in line for line in document["notes"])
