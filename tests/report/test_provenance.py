import json
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, embed
from aml_mil.encoders import load_encoder
from aml_mil.evaluation.run import OpenRun, open_run
from aml_mil.mil import FitConfig, fit
from aml_mil.report.provenance import provenance_of
from stores import Manifest, open_store
from tests.command_line import RunCommand
from tests.evaluation.cohorts import SIZE_PX, draw_cohort
from tests.report.conftest import EvilRun

UNUSUAL = EmbedConfig(
    views="identity",
    stain="patient",
    cell_types=("monocyte", "myeloblast"),
    precision="bf16",
    engine="torch",
    dtype="float32",
    batch_size=8,
)


@pytest.fixture(scope="module")
def of_maps(tmp_path_factory: pytest.TempPathFactory) -> EvilRun:
    """A run on a store that no flag of embed leaves as it is by default."""
    folder = tmp_path_factory.mktemp("maps")
    cohort = draw_cohort(folder / "cohort", label_is="tint", num_patients=12)
    encoder = load_encoder(
        "resnet18", weights="random:0", image_size_px=SIZE_PX, features="map", layer="layer2"
    )
    for _ in embed(read_cohort(cohort), encoder, folder / "maps.zarr", UNUSUAL):
        pass
    config = FitConfig(num_folds=3, seeds=1, epochs=1, widths=(4, 4), attention_hidden=4)
    for _ in fit(folder / "maps.zarr", out_dir=folder / "run", config=config):
        pass
    return EvilRun(cohort, folder / "maps.zarr", folder / "run")


def embed_again(run: OpenRun, cohort: Path, out: Path, command: RunCommand) -> Manifest:
    """Run the printed embed command on a cohort, into another store."""
    line, *_ = provenance_of(run).commands
    assert line.startswith("aml-mil embed COHORT ")
    words = shlex.split(line)[1:]
    words[words.index("COHORT")] = str(cohort)
    words[words.index("--out") + 1] = str(out)
    done = command(*words)
    assert done.code == 0, done.err
    with open_store(out) as store:
        return store.manifest


@pytest.mark.parametrize("name", ["of_maps", "evil"])
def test_the_embed_command_gives_the_same_store(
    name: str, request: pytest.FixtureRequest, command: RunCommand, tmp_path: Path
) -> None:
    given: EvilRun = request.getfixturevalue(name)
    with open_store(given.store) as store:
        expected = store.manifest
    found = embed_again(open_run(given.run), given.cohort, tmp_path / "again.zarr", command)
    assert found.difference(expected) == ()
    assert found.numerics == expected.numerics


def changed(run: Path, folder: Path, **values: object) -> OpenRun:
    """Copy a run, with other words about its store."""
    copy = Path(shutil.copytree(run, folder / "copy"))
    document = json.loads((copy / "config.json").read_text())
    document["leakage"] = values.pop("leakage", document["leakage"])
    document["stores"][0] |= values
    (copy / "config.json").write_text(json.dumps(document))
    return open_run(copy)


def test_of_a_store_that_is_gone_no_arithmetic_is_made_up(of_maps: EvilRun, tmp_path: Path) -> None:
    line, *_ = provenance_of(changed(of_maps.run, tmp_path, path="/nowhere/x.zarr")).commands
    assert "--features map --layer layer2 --views identity" in line
    assert "--engine" not in line
    assert "--precision" not in line


def test_a_store_of_a_compiled_encoder_is_compiled_again(
    of_maps: EvilRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(of_maps.run)
    assert "--compile" not in provenance_of(run).commands[0]
    compiled = SimpleNamespace(manifest=SimpleNamespace(numerics={"compiled": True}))
    monkeypatch.setattr(run, "store", lambda fold: nullcontext(compiled))
    assert "--compile" in provenance_of(run).commands[0]


def test_features_from_elsewhere_have_no_embed_command(evil: EvilRun, tmp_path: Path) -> None:
    run = changed(evil.run, tmp_path, preprocessing={"imported": True})
    assert [line.split()[1] for line in provenance_of(run).commands] == ["fit-mil", "report"]


def test_a_transductive_fit_is_allowed_again(evil: EvilRun, tmp_path: Path) -> None:
    *_, fit_line, _ = provenance_of(changed(evil.run, tmp_path, leakage="transductive")).commands
    assert "--allow-transductive" in fit_line
    *_, fit_line, _ = provenance_of(open_run(evil.run)).commands
    assert "--allow-transductive" not in fit_line
