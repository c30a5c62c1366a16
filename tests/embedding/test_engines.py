"""Which engine a store gets, and keeps."""

import numpy as np
import pytest
import torch

from aml_mil.embedding import EngineError, NumericsMismatchError, engines, numerics, store_job
from aml_mil.embedding.building import build_engine
from aml_mil.embedding.engines import MIN_ENCODINGS, choose_engine
from aml_mil.embedding.openvino_engine import has_openvino
from stores import open_store
from tests.embedding.drawing import (
    LABELS,
    bag_bytes,
    draw_patient,
    run,
    start,
    write_table,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_openvino = pytest.mark.skipif(not has_openvino(), reason="needs openvino")


@pytest.fixture
def large(monkeypatch):
    """Every job repays any start."""
    monkeypatch.setattr(engines, "MIN_ENCODINGS", 1)


def recorded(store):
    with open_store(store) as opened:
        return opened.manifest.numerics


@pytest.mark.parametrize(
    ("device", "precision", "is_there", "num_encodings", "expected"),
    [
        (CPU, "bf16", True, MIN_ENCODINGS, "openvino"),
        (CPU, "fp32", True, MIN_ENCODINGS, "openvino"),
        (CPU, "bf16", True, MIN_ENCODINGS - 1, "torch"),
        (CPU, "bf16", False, MIN_ENCODINGS, "torch"),
        (CUDA, "fp16", True, MIN_ENCODINGS, "torch"),
    ],
)
def test_auto_takes_openvino_on_a_cpu_where_its_start_is_repaid(
    monkeypatch, device, precision, is_there, num_encodings, expected
):
    monkeypatch.setattr(engines, "has_openvino", lambda: is_there)
    chosen = choose_engine("auto", device=device, precision=precision, num_encodings=num_encodings)
    assert chosen == expected


def test_an_engine_that_cannot_be_had_is_refused(monkeypatch):
    with pytest.raises(EngineError, match="on a CPU, got device cuda"):
        choose_engine("openvino", device=CUDA, precision="fp32", num_encodings=0)
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    with pytest.raises(EngineError, match="pip install openvino"):
        choose_engine("openvino", device=CPU, precision="fp32", num_encodings=0)


@needs_openvino
@pytest.mark.usefixtures("large")
def test_the_store_records_the_engine_and_its_version(cohort_dir, store_path, encoder):
    summary = run(cohort_dir, store_path, encoder)
    assert summary.engine == recorded(store_path)["engine"] == "openvino"
    assert recorded(store_path)["versions"]["openvino"]


@needs_openvino
def test_a_grown_store_keeps_its_engine_to_the_byte(cohort_dir, store_path, tmp_path, encoder):
    interrupted = iter(start(cohort_dir, store_path, encoder, engine="openvino"))
    next(interrupted)
    next(interrupted)
    interrupted.close()
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    assert run(cohort_dir, store_path, encoder).engine == "openvino", "though auto is torch here"
    anew = tmp_path / f"anew{store_path.suffix}"
    run(cohort_dir, anew, encoder, engine="openvino")
    assert bag_bytes(store_path) == bag_bytes(anew)


@needs_openvino
@pytest.mark.usefixtures("large")
def test_a_store_begun_with_torch_stays_with_torch(cohort_dir, store_path, encoder):
    run(cohort_dir, store_path, encoder, engine="torch")
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    assert run(cohort_dir, store_path, encoder).engine == "torch"


@needs_openvino
def test_another_engine_than_the_stores_is_refused_with_both_values(
    cohort_dir, store_path, encoder, monkeypatch
):
    run(cohort_dir, store_path, encoder, engine="openvino")
    message = "engine: store openvino, now torch"
    with pytest.raises(NumericsMismatchError, match=message):
        run(cohort_dir, store_path, encoder, engine="torch")
    monkeypatch.setattr(numerics, "has_openvino", lambda: False)
    with pytest.raises(NumericsMismatchError, match=message):
        run(cohort_dir, store_path, encoder)


@needs_openvino
@pytest.mark.usefixtures("large")
def test_auto_falls_back_to_torch_where_the_encoder_cannot_be_run(
    cohort_dir, store_path, encoder, monkeypatch
):
    def build(numerics, *arguments, **settings):
        if numerics.engine == "openvino":
            raise EngineError("OpenVINO cannot run it")
        return build_engine(numerics, *arguments, **settings)

    monkeypatch.setattr(store_job, "build_engine", build)
    assert run(cohort_dir, store_path, encoder).engine == "torch"
    assert recorded(store_path)["engine"] == "torch"
    with open_store(store_path) as store:
        assert store.read_log()[0]["engine_note"] == "OpenVINO cannot run it"
    other = store_path.with_name(f"other{store_path.suffix}")
    with pytest.raises(EngineError, match="cannot run it"):
        run(cohort_dir, other, encoder, engine="openvino")
    assert not other.exists(), "no store is begun that could not be filled"


@needs_openvino
def test_both_engines_give_a_cell_the_same_features_but_for_rounding(cohort_dir, tmp_path, encoder):
    for engine in ("torch", "openvino"):
        run(cohort_dir, tmp_path / f"{engine}.zarr", encoder, engine=engine, dtype="float32")
    with open_store(tmp_path / "torch.zarr") as one, open_store(tmp_path / "openvino.zarr") as two:
        for bag_id in LABELS:
            first, second = one.read(bag_id), two.read(bag_id)
            assert first.instance_ids == second.instance_ids
            np.testing.assert_allclose(first.features, second.features, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(first.views, second.views, rtol=1e-3, atol=1e-5)
