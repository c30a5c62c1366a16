"""What runs on a borrowed GPU: every test that needs one, and each step whatever another does."""

import re
from pathlib import Path

import pytest

from benchmarks import on_gpu

ROOT = Path(__file__).parents[2]
NEEDS_A_GPU = re.compile(r"mark\.gpu\b|def test_\w+\([^)]*\bgpu\b")


def test_every_file_with_tests_for_a_gpu_is_run():
    files = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tests/**/test_*.py")
        if path != Path(__file__) and NEEDS_A_GPU.search(path.read_text())
    }
    assert set(on_gpu.GPU_TESTS.split()) == files


def test_a_step_that_fails_is_named_and_the_others_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "STEPS", {"bad": "no.such.module", "good": "platform"})
    with pytest.raises(SystemExit, match=f"failed: bad; see their logs in {tmp_path}"):
        on_gpu.main([str(tmp_path)])
    assert "bad: failed with exit code 1" in capsys.readouterr().out
    assert "no.such.module" in (tmp_path / "bad.log").read_text()
    assert (tmp_path / "good.log").read_text().strip()


def test_a_step_that_takes_too_long_is_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "STEPS", {"long": "platform"})
    with pytest.raises(SystemExit, match="failed: long"):
        on_gpu.main([str(tmp_path), "--limit-s", "0.001"])
    assert "long: failed: over 0" in capsys.readouterr().out


def test_an_unknown_step_is_refused_by_name(tmp_path, capsys):
    with pytest.raises(SystemExit):
        on_gpu.main([str(tmp_path), "--only", "tests,ride"])
    assert "unknown steps ride" in capsys.readouterr().err
