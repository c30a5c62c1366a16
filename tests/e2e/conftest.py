"""A small synthetic cohort and what becomes of it, made once for all tests."""

import shutil
from pathlib import Path

import pytest

from cli.main import main
from tests.command_line import RunCommand, runner

EMBED = ["--encoder", "resnet18", "--weights", "random:0", "--image-size", "48"]


@pytest.fixture
def aml_mil(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run the command line in this process."""
    return runner(capsys)


@pytest.fixture(scope="session")
def shared_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 patients of 4 cells; read only."""
    path = tmp_path_factory.mktemp("synth") / "cohort"
    assert main(["synth", str(path), "--patients", "20", "--cells", "4", "--seed", "0"]) == 0
    return path


@pytest.fixture(scope="session")
def shared_store(shared_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort's features; read only."""
    path = tmp_path_factory.mktemp("store") / "random.zarr"
    assert main(["embed", str(shared_cohort), *EMBED, "--out", str(path)]) == 0
    return path


@pytest.fixture
def cohort(shared_cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort to damage."""
    return Path(shutil.copytree(shared_cohort, tmp_path / "cohort"))


@pytest.fixture
def store(shared_store: Path, tmp_path: Path) -> Path:
    """A copy of the store to damage."""
    return Path(shutil.copytree(shared_store, tmp_path / "random.zarr"))
