"""Benchmarks run from start to end, in their smallest sizes; ratios are of their own figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main as aml_mil
from tests.mil.cases import write_store

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def figures(tmp_path):
    """Run a benchmark and return what it writes."""

    def run(name, *words):
        path = tmp_path / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, words), "--json", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(path.read_text())

    return run


def test_embed_throughput(figures):
    found = figures("embed_throughput", "--cells", 40, "--cells-per-patient", 20, "--rounds", 1)
    (case,) = found.values()
    steps = case["steps"]
    assert steps["ours"]["images"] == steps["field"]["images"] == 40
    assert case["vs_field"] == pytest.approx(steps["ours"]["rate"] / steps["field"]["rate"])
    assert case["of_ceiling"] == pytest.approx(steps["ours"]["rate"] / steps["engine"]["rate"])
    assert steps["decode"]["rate"] > 0


def test_decode_workers(figures):
    found = figures("decode_workers", "--cells", 200, "--workers", "1,2")
    kinds = {(row["side_px"], row["workers"], row["kind"]) for row in found}
    assert kinds == {(s, w, k) for s in (144, 16) for w in (1, 2) for k in ("threads", "processes")}
    assert all(row["cells_per_s"] > 0 for row in found)


def test_embed_memory(figures):
    found = figures("embed_memory", "--cells", 200, "--largest", 50)
    assert set(found) == {"zarr", "h5store"}
    for runs in found.values():
        assert runs["small"]["peak_mib"] > 0
        assert runs["more_mib"] == runs["large"]["peak_mib"] - runs["small"]["peak_mib"]


def test_fit_throughput(figures, tmp_path):
    store = write_store(tmp_path / "toy.zarr")
    found = figures("fit_throughput", "--store", store, "--rounds", 1, "--seconds", 0.1)
    (case,) = found["cases"].values()
    ours, loop = (case["rows"][name] for name in ("ours bf16 R=15", "loop fp32"))
    rates = [row["bags"] / row["seconds"] for row in (ours, loop)]
    assert found["ratios"]["vs_field"] == pytest.approx(rates[0] / rates[1])
    assert all(ratio > 0 for ratio in found["ratios"].values())


def test_fit_paper(figures):
    sizes = ("--patients", 40, "--cells", 10, "--views", 2, "--epochs", 2)
    found = figures("fit_paper", *sizes, "--seconds", 0.1)
    assert 0 < found["training_s"] < found["command_s"]
    for name, seconds in found["loop_s"].items():
        ratio = found["ratios"][f"loop_{name}_vs_command"]
        assert ratio == pytest.approx(seconds / found["command_s"])


def test_pretrain_throughput(figures, tmp_path):
    assert aml_mil(["synth", str(tmp_path / "c"), "--patients", "8", "--cells", "4"]) == 0
    sizes = ("--batch-size", 8, "--image-size", 32, "--local-size", 16)
    found = figures("pretrain_throughput", tmp_path / "c", *sizes, "--steps", 1)
    assert [row["method"] for row in found["rows"]] == ["simclr", "swav", "dino"]
    for row in found["rows"]:
        assert min(row["run"], row["ceiling"], row["views"], row["full_recipe_hours"]) > 0


def test_giga_throughput(figures):
    found = figures("giga_throughput", "--patients", 16, "--batch-size", 8, "--seconds", 0.1)
    assert [(r["encoder"], r["cells"]) for r in found["rows"]] == [
        ("set", 5),
        ("set", 50),
        ("sparse", 5),
    ]
    for row in found["rows"]:
        assert row["share"] == pytest.approx(row["run"] / row["ceiling"])


def test_store_io(figures):
    found = figures("store_io", "--patients", 3, "--cells", 10, "--rounds", 1)
    assert found["bytes"] == 3 * 10 * 4 * 512 * 2
    assert set(found["info_us_per_bag"]) == {".zarr", ".h5store"}
    assert all(step["of_readinto"]["seconds"] > 0 for step in found["steps"].values())


def test_many_patients(figures):
    found = figures("many_patients", "--patients", 30)
    assert found["feature_bytes"] > 0
    assert {"open", "info", "pack", "resume"} <= set(found["steps"])


def test_interchange(figures):
    found = figures("interchange", "--bags", 20, "--instances", 20, "--features", 16)
    assert found["num_bytes"] > 20 * 20 * 16 * 4
    assert len(found["steps"]) > 3
