"""What `aml-mil doctor` says."""

import pytest
import torch

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, EngineError, doctor, engines, rates
from aml_mil.embedding.building import build_engine
from aml_mil.embedding.doctor import diagnose, measure_needs
from aml_mil.embedding.openvino_engine import has_openvino
from aml_mil.encoders import load_encoder
from stores import open_store, store_info
from tests.command_line import runner
from tests.embedding.drawing import (
    LABELS,
    draw_cohort,
    draw_patient,
    run,
    tiny_encoder,
    write_table,
)

SECONDS = 0.1


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("doctor")
    for patient_id in ("AQK", "BZF"):
        draw_patient(root, patient_id, "APL", 60)
    write_table(root, {"AQK": "APL", "BZF": "APL"})
    return read_cohort(root)


def test_it_chooses_what_embed_records(cohort, tmp_path):
    config = EmbedConfig(device="cpu")
    found = diagnose(tiny_encoder(), config, cohort=cohort, seconds=SECONDS)
    summary = run(cohort, tmp_path / "a.zarr", tiny_encoder(), precision="auto", batch_size=None)
    assert (found.engine.value, found.precision.value) == (summary.engine, summary.compute_dtype)
    assert found.device.value == "cpu"
    assert found.device.reason == "asked for"
    assert "do not repay" in found.engine.reason or not has_openvino()


@pytest.mark.parametrize("suffix", ["zarr", "h5store"])
@pytest.mark.parametrize("features", ["vector", "map"])
def test_the_disk_that_a_store_needs_is_within_a_tenth(cohort, tmp_path, suffix, features):
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=32, features=features)
    needs = measure_needs(cohort, encoder, EmbedConfig(), out=tmp_path, cells_per_s=10)
    run(cohort, tmp_path / f"a.{suffix}", encoder, engine="torch")
    with open_store(tmp_path / f"a.{suffix}") as store:
        assert needs.store_bytes == pytest.approx(store_info(store)["num_bytes"], rel=0.1)
    assert needs.seconds == pytest.approx(12)


def test_rates_are_measured_and_not_made_up(cohort, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(rates.time, "perf_counter", lambda: float(next(ticks)))
    config = EmbedConfig(device="cpu", engine="torch", batch_size=8)
    found = diagnose(tiny_encoder(), config, cohort=cohort, seconds=3.0)
    assert found.encoded_per_s == pytest.approx(2 * 8 / 3), "two batches in three ticks"
    assert found.decoded_per_s == pytest.approx(2 / 3)


def test_an_engine_that_fails_is_named_with_its_reason(monkeypatch):
    def build(numerics, *arguments, **settings):
        if numerics.engine == "openvino":
            raise EngineError("OpenVINO cannot run it")
        return build_engine(numerics, *arguments, **settings)

    monkeypatch.setattr(doctor, "build_engine", build)
    monkeypatch.setattr(engines, "has_openvino", lambda: True)
    config = EmbedConfig(device="cpu", precision="fp32")
    found = diagnose(tiny_encoder(), config, seconds=SECONDS)
    assert (found.engine.value, found.engine.reason) == ("torch", "OpenVINO cannot run it")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name == "openvino" or None)
    parts = {part.name: part.is_there for part in doctor.find_parts()}
    assert parts["openvino"]
    assert not parts["nncf"]
    assert parts["GPU"] == torch.cuda.is_available()


def test_the_command_prints_a_table_or_json(cohort, capsys, tmp_path):
    command = runner(capsys)
    small = ["--encoder", "test_resnet", "--image-size", "32", "--seconds", "0.1"]
    small += ["--device", "cpu", "--out", tmp_path]
    document = command("doctor", cohort.root, *small, "--json").json
    assert document["cohort"]["num_cells"] == 120
    assert document["encoded_per_s"] > 0
    shown = command("doctor", *small)
    assert shown.code == 0
    assert "slower of the two" in shown.out
    assert "time to embed" not in shown.out


def test_files_that_are_no_images_are_counted_by_doctor_and_embed(capsys, tmp_path):
    command, root = runner(capsys), draw_cohort(tmp_path / "cohort")
    (root / "data" / LABELS["AQK"] / "AQK" / "Thumbs.db").touch()
    small = ["--encoder", "test_resnet", "--image-size", "32", "--device", "cpu"]
    told = command("doctor", root, *small, "--seconds", "0.1")
    words = ("--weights", "random:0", "--precision", "fp32", "--out", tmp_path / "a.zarr")
    for done in (told, command("embed", root, *small, *words)):
        assert done.code == 0
        assert "no images were skipped: AQK/Thumbs.db (1)" in done.err
