"""The Python examples of README.md run, on a small cohort."""

import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.documents import python_examples
from tests.evaluation.cohorts import Fitted


def test_the_examples_of_the_readme_run(
    tinted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tinted.store, "cells.zarr")
    shutil.copytree(tinted.run, "runs/a")
    shutil.copytree(tinted.cohort, "COHORT")
    names: dict[str, object] = {}
    for example in python_examples("README.md"):
        *lines, last = example.replace("AQK", "P00").replace("PML_RARA", "red").splitlines()
        exec("\n".join([*lines, f"last = {last}" if last[0] != " " else last]), names)
    assert names["bag"].features.shape == (4, 512)  # type: ignore[attr-defined]
    assert isinstance(names["last"], Figure)
