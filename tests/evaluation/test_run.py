import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import aml_mil
from aml_mil.evaluation import EvaluationError, cell_map
from aml_mil.mil import FitConfig, RunError, fit
from tests.evaluation.cohorts import Fitted


def test_a_run_is_assessed_explained_and_drawn_from_five_lines(tinted: Fitted) -> None:
    run = aml_mil.open_run(tinted.run)
    assert run.assessment.macro["roc_auc"].mean > 0.9
    explanation = run.explain("P03")
    assert len(explanation.most_attended("red", 3)) == 3
    assert run.predict(tinted.store).patient_ids == run.scores.patient_ids
    assert isinstance(run.roc_figure(), Figure)


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


def test_every_figure_is_returned(tinted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_map, "lay_out", lambda features, seed: features[:, :2].astype(float))
    run = aml_mil.open_run(tinted.run)
    for draw in (
        run.confusion_figure,
        run.precision_recall_figure,
        run.attention_figure,
        run.cell_map_figure,
    ):
        assert isinstance(draw(), Figure)


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


def test_an_unknown_patient_and_a_folder_without_a_run_are_refused(
    tinted: Fitted, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="has no patient 'nobody'"):
        aml_mil.open_run(tinted.run).explain("nobody")
    with pytest.raises(RunError, match="expected the folder of a run"):
        aml_mil.open_run(tmp_path)


def test_importing_the_package_loads_neither_torch_nor_matplotlib() -> None:
    code = "import aml_mil, sys; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
