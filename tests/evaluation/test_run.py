import json
import pydoc
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import average_precision_score, roc_auc_score

import aml_mil
from aml_mil.evaluation import EvaluationError, cell_map
from aml_mil.evaluation.run import OpenRun
from aml_mil.mil import FitConfig, RunError, fit
from tests.evaluation.cohorts import Fitted


def test_a_run_is_assessed_explained_and_drawn_from_five_lines(tinted: Fitted) -> None:
    run = aml_mil.open_run(tinted.run)
    assert run.assessment.macro["roc_auc"].mean > 0.9
    explanation = run.explain("P03")
    assert len(explanation.most_attended("red", 3)) == 3
    assert run.predict(tinted.store).patient_ids == run.scores.patient_ids
    assert "blue" in shown(run.roc_figure())


def test_an_explanation_comes_from_heads_that_never_saw_the_patient(tinted: Fitted) -> None:
    run = aml_mil.open_run(tinted.run)
    explanation = run.explain("P03")
    heads = [run.run.head(run.fold_of("P03"), seed) for seed in (0, 1)]
    with run.store() as store:
        bag = store.read("P03")
    import torch

    with torch.no_grad():
        scores = [head(torch.from_numpy(bag.features).float()).scores for head in heads]
    expected = torch.stack(scores).softmax(dim=1).mean(dim=0).numpy()
    np.testing.assert_allclose(explanation.attention, expected, atol=2e-3)
    assert explanation.instance_ids == bag.instance_ids
    assert explanation.cell_types == bag.instance_labels


def test_a_run_whose_heads_learn_no_attention_says_so(tinted: Fitted, tmp_path: Path) -> None:
    config = FitConfig(pool="mean", epochs=1, seeds=1, num_folds=3, widths=(4, 4, 4, 4))
    *_, _ = fit(tinted.store, out_dir=tmp_path / "mean", config=config)
    run = aml_mil.open_run(tmp_path / "mean")
    with pytest.raises(EvaluationError, match=r"pool by mean; .* fit with --pool attention"):
        run.explain("P03")


def shown(figure: Figure) -> str:
    """Return every text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def open_unsure(path: Path) -> OpenRun:
    """Open a run whose every seed errs, each in its own way."""
    run = aml_mil.open_run(path)
    probabilities = run.scores.probabilities
    chance = np.random.default_rng(0).dirichlet([0.5, 0.5], size=probabilities.shape[:2])
    probabilities[:] = (probabilities + 2 * chance) / 3
    return run


def test_the_confusion_figure_counts_the_runs_patients(tinted: Fitted) -> None:
    run = open_unsure(tinted.run)
    called = run.scores.probabilities[1].argmax(axis=1)
    text = shown(run.confusion_figure(seed=1))
    counts = [
        int((called[run.scores.targets == true] == c).sum()) for true in (0, 1) for c in (0, 1)
    ]
    assert "\n".join(f"{count}\n{count / 12:.0%}" for count in counts) in text


@pytest.mark.parametrize(
    ("draw", "score", "axis"),
    [
        ("roc_figure", roc_auc_score, "true positive rate"),
        ("precision_recall_figure", average_precision_score, "precision"),
    ],
)
def test_the_curves_of_a_run_are_named_with_their_areas(
    tinted: Fitted, draw: str, score: Callable[..., float], axis: str
) -> None:
    run = open_unsure(tinted.run)
    text = shown(getattr(run, draw)())
    assert axis in text
    for c, label in enumerate(run.classes):
        areas = [
            score(run.scores.targets[rows] == c, run.scores.averaged[rows, c])
            for rows in run.scores.fold_rows.values()
        ]
        assert np.mean(areas) < 0.99
        assert f"\n{label} {np.mean(areas):.2f} (" in text


def test_the_attention_figure_shows_the_runs_types_and_gap(tinted: Fitted) -> None:
    run = aml_mil.open_run(tinted.run)
    text = shown(run.attention_figure())
    assert "myeloblast" in text
    assert "monocyte" in text
    gap = run.attention_by_type().gap.estimate
    assert f"gap {gap:+.2f}".replace("-", "−") in text


def mean_and_sd(features: np.ndarray) -> np.ndarray:
    """Lay cells out without UMAP, which compiles for half a minute."""
    wide = features.astype(np.float64)
    return np.stack([wide.mean(axis=1), wide.std(axis=1)], axis=1)


def test_the_cell_map_shows_every_annotated_cell_of_the_first_fold(
    tinted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_map, "lay_out", lambda features, seed: mean_and_sd(features))
    run = aml_mil.open_run(tinted.run)
    figure = run.cell_map_figure()
    drawn = np.concatenate([dots.get_offsets() for dots in figure.axes[0].collections])
    rows = run.scores.fold_rows[0]
    with run.store() as store:
        cells = [store.read(run.scores.patient_ids[i]).features for i in rows]
    expected = mean_and_sd(np.concatenate(cells))
    assert len(np.unique(expected, axis=0)) == 4 * len(rows)
    assert sorted(drawn.tolist()) == sorted(expected.tolist())
    assert f"kNN {run.cell_map().knn_accuracy:.2f}" in shown(figure)


def test_a_store_that_is_gone_or_another_is_said(tinted: Fitted, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((path / "config.json").read_text())
    document["stores"][0]["identity_sha256"] = "0" * 64
    (path / "config.json").write_text(json.dumps(document))
    with pytest.raises(EvaluationError, match="is not the store that"):
        aml_mil.open_run(path).explain("P03")
    document["stores"][0]["path"] = "/nowhere/x.zarr"
    (path / "config.json").write_text(json.dumps(document))
    with pytest.raises(EvaluationError, match=r"not at /nowhere/x\.zarr any more"):
        aml_mil.open_run(path).explain("P03")


def test_a_store_at_a_url_is_found(tinted: Fitted, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((path / "config.json").read_text())
    url = document["stores"][0]["path"] = f"file://{tinted.store.absolute()}"
    (path / "config.json").write_text(json.dumps(document))
    with aml_mil.open_run(path).store() as store:
        assert str(store.path) == url
        assert store.read("P03").instance_ids
    document["stores"][0]["path"] = "file:///nowhere/x.zarr"
    (path / "config.json").write_text(json.dumps(document))
    with pytest.raises(EvaluationError, match=r"not at file:///nowhere/x\.zarr any more"):
        aml_mil.open_run(path).explain("P03")


def test_an_unknown_patient_and_a_folder_without_a_run_are_refused(
    tinted: Fitted, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="has no patient 'nobody'"):
        aml_mil.open_run(tinted.run).explain("nobody")
    with pytest.raises(RunError, match="expected the folder of a run"):
        aml_mil.open_run(tmp_path)


def test_help_and_completion_name_what_users_need() -> None:
    assert set(aml_mil.__all__) <= set(dir(aml_mil))
    assert "open_run(path" in pydoc.render_doc(aml_mil, renderer=pydoc.plaintext)


def test_importing_the_package_loads_neither_torch_nor_matplotlib() -> None:
    code = "import aml_mil, sys; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
