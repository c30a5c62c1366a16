"""Several encoders over one stream of cells."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, EmbedError, cells, embed_by_several
from cli.embed import embed
from cli.embed_names import name_stores
from tests.embedding.drawing import (
    LABELS,
    NUM_CELLS,
    bag_bytes,
    draw_patient,
    run,
    tiny_encoder,
    write_table,
)

NUM_ALL = sum(NUM_CELLS.values())
SETTINGS = EmbedConfig(precision="fp32", batch_size=6, workers=2, device="cpu")


@pytest.fixture
def encoders(tmp_path):
    return {tmp_path / "first.zarr": tiny_encoder(0), tmp_path / "second.h5store": tiny_encoder(1)}


@pytest.fixture
def decoded(monkeypatch):
    """Names of the cells that were decoded."""
    names = []
    real = cells.load_cell

    def load_cell(patient, cell, **settings):
        names.append((patient.patient_id, cell.instance_id))
        return real(patient, cell, **settings)

    monkeypatch.setattr(cells, "load_cell", load_cell)
    return names


def run_all(cohort_dir, encoders):
    finished = embed_by_several(read_cohort(cohort_dir), encoders, SETTINGS)
    for _ in finished:
        pass
    return finished.summaries


def test_every_store_is_what_its_encoder_makes_alone_and_cells_are_decoded_once(
    cohort_dir, encoders, decoded, tmp_path
):
    summaries = run_all(cohort_dir, encoders)
    assert len(decoded) == len(set(decoded)) == NUM_ALL
    assert [summary.cells_embedded for summary in summaries] == [NUM_ALL, NUM_ALL]
    for path, encoder in encoders.items():
        alone = tmp_path / f"alone{path.suffix}"
        run(cohort_dir, alone, encoder)
        assert bag_bytes(path) == bag_bytes(alone)


def test_each_store_is_resumed_on_its_own(cohort_dir, encoders, decoded, tmp_path):
    (first, encoder), (second, _) = encoders.items()
    run(cohort_dir, first, encoder)
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    decoded.clear()
    one, two = run_all(cohort_dir, encoders)
    assert (one.patients_embedded, one.patients_skipped) == (1, 3)
    assert (two.patients_embedded, two.patients_skipped) == (4, 0)
    assert len(decoded) == NUM_ALL + 5
    alone = tmp_path / "alone.h5store"
    run(cohort_dir, alone, encoders[second])
    assert bag_bytes(second) == bag_bytes(alone)


@pytest.mark.parametrize(
    ("weights", "store"),
    [("swav.pth.tar", "swav.zarr"), ("simclr.fold0.safetensors", "simclr.fold0.zarr")],
)
def test_a_store_is_named_by_its_weights_file_without_the_suffix(weights, store, tmp_path):
    encoder = replace(tiny_encoder(0), weights=str(tmp_path / weights))
    assert list(name_stores(tmp_path / "{encoder}.zarr", [encoder])) == [tmp_path / store]


def test_encoders_of_different_image_sizes_are_refused(cohort_dir, tmp_path):
    sizes = {tmp_path / f"{px}.zarr": tiny_encoder(image_size_px=px) for px in (32, 48)}
    with pytest.raises(EmbedError, match=r"32\.zarr 32 px, 48\.zarr 48 px"):
        embed_by_several(read_cohort(cohort_dir), sizes, SETTINGS)


def invoke(cohort_dir: Path, out: str, *flags: str):
    small = ["--image-size", "32", "--device", "cpu"]
    return CliRunner().invoke(embed, [str(cohort_dir), "--out", out, *small, *flags])


TWO = ("--encoder", "test_resnet", "--encoder", "test_resnet")


def test_the_command_names_a_store_after_each_encoder(cohort_dir, tmp_path):
    weights = ("--weights", "random:0", "--weights", "random:1")
    done = invoke(cohort_dir, f"{tmp_path}/{{encoder}}.zarr", *TWO, *weights, "--json")
    assert done.exit_code == 0, done.stderr
    names = [Path(store["store"]).name for store in json.loads(done.stdout)["stores"]]
    assert names == ["test_resnet-random-0.zarr", "test_resnet-random-1.zarr"]
    assert all((tmp_path / name / "manifest.json").exists() for name in names)


@pytest.mark.parametrize(
    ("out", "weights", "message"),
    [
        ("{encoder}.zarr", ["random:0"], r"2 \(test_resnet, test_resnet\), got 1"),
        ("{encoder}.zarr", ["random:0", "random:1", "random:2"], "got 3"),
        ("all.zarr", ["random:0", "random:1"], r"expected \{encoder\} in the name"),
        ("{encoder}.zarr", ["random:0", "random:0"], "two encoders would fill"),
    ],
    ids=["too few weights", "too many weights", "one name for all", "the same twice"],
)
def test_what_does_not_pair_up_is_refused(cohort_dir, tmp_path, out, weights, message):
    flags = [word for value in weights for word in ("--weights", value)]
    done = invoke(cohort_dir, f"{tmp_path}/{out}", *TWO, *flags)
    assert done.exit_code == 2
    lines = " ".join(done.stderr.split())
    assert re.search(message, lines), lines
    assert not list(tmp_path.glob("*.zarr"))
