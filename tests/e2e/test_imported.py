"""From features of others to every result that needs no images."""

from pathlib import Path

import pytest

from tests.command_line import RunCommand, runner
from tests.interchange.layouts import features, write_table, write_trident

NUM_SLIDES = 20
SHORT_FIT = ("--num-folds", 3, "--seeds", 1, "--epochs", 2, "--widths", "4,4,4,4")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    return runner(capsys)


def _import(run: RunCommand, folder: Path, *, seed: int, name: str) -> Path:
    """Import slides of two labels, told apart by a shift, from TRIDENT's layout."""
    source = folder / f"{name}-source"
    source.mkdir()
    slides = [f"s{i:02d}" for i in range(NUM_SLIDES)]
    bags = {s: features(9 + i % 4, 6, seed=seed + i) + i % 2 for i, s in enumerate(slides)}
    write_trident(source, bags)
    rows = [(s, "AML" if i % 2 else "APL") for i, s in enumerate(slides)]
    labels = write_table(folder / f"{name}-labels.csv", ("slide_id", "label"), *rows)
    out = folder / f"{name}.zarr"
    outcome = run("store", "import", source, "--from", "trident", "--labels", labels, "--out", out)
    assert outcome.code == 0, outcome.err
    return out


@pytest.mark.slow
def test_imported_features_give_heads_tables_report_embeddings_and_predictions(
    run: RunCommand, tmp_path: Path
) -> None:
    ours = _import(run, tmp_path, seed=0, name="ours")
    others = _import(run, tmp_path, seed=100, name="others")
    fitted = run("fit-mil", ours, others, "--out", tmp_path / "runs", *SHORT_FIT)
    assert fitted.code == 0, fitted.err
    runs = [tmp_path / "runs" / name for name in ("ours", "others")]

    compared = run("compare", *runs)
    assert compared.code == 0, compared.err
    assert all(r.name in compared.out for r in runs)

    page = tmp_path / "report.html"
    reported = run("report", runs[0], "--out", page)
    assert reported.code == 0, reported.err
    assert "s00" in page.read_text(encoding="utf-8")

    giga = tmp_path / "giga.safetensors"
    learned = run("giga-ssl", ours, "--out", giga, "--epochs", 2, "--encoder", "sparse")
    assert learned.code == 0, learned.err
    embedded = run("giga-embed", others, "--giga", giga, "--out", tmp_path / "giga.csv")
    assert embedded.code == 0, embedded.err
    assert len((tmp_path / "giga.csv").read_text().splitlines()) == 1 + NUM_SLIDES

    predicted = run("predict", runs[0], others, "--out", tmp_path / "predicted")
    assert predicted.code == 0, predicted.err
    table = (tmp_path / "predicted" / "predictions.csv").read_text().splitlines()
    assert len(table) == 1 + NUM_SLIDES
    assert (tmp_path / "predicted" / "metrics.json").exists()
