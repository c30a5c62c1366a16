"""int8: opt-in, calibrated on the cohort, and the same bytes whenever it is resumed."""

import pytest
import torch

from aml_mil.cohort import read_cohort
from aml_mil.embedding import (
    EmbedConfig,
    EngineError,
    NumericsMismatchError,
    doctor,
    engines,
    numerics,
    openvino_engine,
    store_job,
)
from aml_mil.embedding import calibration as calibration_file
from aml_mil.embedding.calibration import draw_calibration
from aml_mil.embedding.engines import choose_engine
from aml_mil.embedding.openvino_engine import OpenVinoEngine, has_openvino
from aml_mil.embedding.quantise import has_nncf
from stores import open_store
from tests.embedding.drawing import (
    LABELS,
    SIZE_PX,
    bag_bytes,
    damage,
    draw_cell,
    draw_patient,
    interrupt_after_a_bag,
    run,
    start,
    write_table,
)

CPU = torch.device("cpu")
NUM_CALIBRATION = 12
needs_int8 = pytest.mark.skipif(
    not (has_openvino() and has_nncf()), reason="needs openvino and nncf"
)


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "features.zarr"


@pytest.fixture(autouse=True)
def _few_cells(monkeypatch):
    monkeypatch.setattr(calibration_file, "NUM_CELLS", NUM_CALIBRATION)


def files_of(store):
    with open_store(store) as opened:
        return opened.manifest.numerics["calibration"]["files"]


def test_the_same_cells_are_drawn_of_the_same_cohort_and_damaged_ones_are_not(cohort_dir):
    cohort = read_cohort(cohort_dir)
    drawn = draw_calibration(cohort, image_size_px=SIZE_PX)
    assert drawn.files == draw_calibration(cohort, image_size_px=SIZE_PX).files
    assert len(set(drawn.files)) == len(drawn.images) == NUM_CALIBRATION
    patient_id, name, _ = drawn.files[0]
    damage(cohort_dir / "data" / LABELS[patient_id] / patient_id / name)
    again = draw_calibration(cohort, image_size_px=SIZE_PX)
    assert (patient_id, name) not in {file[:2] for file in again.files}
    assert len(again.images) == NUM_CALIBRATION


@needs_int8
def test_a_resumed_and_grown_store_has_the_bytes_of_an_undisturbed_one(
    cohort_dir, store_path, tmp_path, encoder
):
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    run(cohort_dir, undisturbed, encoder, precision="int8", batch_size=2)
    unfinished = start(cohort_dir, store_path, encoder, precision="int8", batch_size=2)
    interrupt_after_a_bag(unfinished, store_path)
    with open_store(store_path) as store:
        assert 0 < len(store) < len(LABELS)
    draw_patient(cohort_dir, "NEW", "APL", 9)  # other cells would be drawn now
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    summary = run(cohort_dir, store_path, encoder, precision="auto", batch_size=2)
    assert (summary.engine, summary.compute_dtype) == ("openvino", "int8")
    found, expected = bag_bytes(store_path), bag_bytes(undisturbed)
    assert {name: found[name] for name in expected} == expected
    assert files_of(store_path) == files_of(undisturbed)


@needs_int8
def test_a_cell_of_the_calibration_that_has_changed_stops_the_run(
    cohort_dir, store_path, tmp_path, encoder
):
    run(cohort_dir, store_path, encoder, precision="int8")
    patient_id, name, _ = files_of(store_path)[-1]
    path = cohort_dir / "data" / LABELS[patient_id] / patient_id / name
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    draw_cell(tmp_path / "other.png")
    path.write_bytes((tmp_path / "other.png").read_bytes())
    with pytest.raises(NumericsMismatchError, match=rf"{patient_id}/{name}, which is another file"):
        run(cohort_dir, store_path, encoder, precision="int8")
    path.unlink()
    with pytest.raises(NumericsMismatchError, match=rf"{patient_id}/{name}, which is gone"):
        run(cohort_dir, store_path, encoder, precision="auto")


@needs_int8
def test_another_graph_than_the_recorded_one_stops_the_run(
    cohort_dir, store_path, encoder, monkeypatch
):
    interrupted = iter(start(cohort_dir, store_path, encoder, precision="int8"))
    next(interrupted)
    interrupted.close()
    monkeypatch.setattr("aml_mil.embedding.openvino_engine.hash_graph", lambda model: "other")
    with pytest.raises(NumericsMismatchError, match="another graph on this machine"):
        run(cohort_dir, store_path, encoder, precision="int8")


@needs_int8
def test_features_stay_near_those_in_fp32_and_are_not_those_of_bf16(cohort_dir, tmp_path, encoder):
    summary = run(cohort_dir, tmp_path / "a.zarr", encoder, precision="int8", check_precision=20)
    assert 0.99 < summary.precision.min_cosine < 0.9999999
    run(cohort_dir, tmp_path / "b.zarr", encoder, engine="openvino")
    assert bag_bytes(tmp_path / "a.zarr") != bag_bytes(tmp_path / "b.zarr")


@needs_int8
def test_nothing_is_printed_while_it_calibrates(cohort_dir, encoder, capfd):
    drawn = draw_calibration(read_cohort(cohort_dir), image_size_px=SIZE_PX)
    OpenVinoEngine(encoder, precision="int8", views=("identity",), calibration=drawn.images)
    assert capfd.readouterr().out == ""


def test_an_encoder_that_cannot_be_had_in_int8_is_refused_with_its_reason(
    cohort_dir, store_path, encoder, monkeypatch
):
    def build(numerics, *arguments, **settings):
        raise EngineError("OpenVINO encodes it wrongly")

    for module in (store_job, doctor):
        monkeypatch.setattr(module, "build_engine", build)
    monkeypatch.setattr(engines, "has_openvino", lambda: True)
    monkeypatch.setattr(engines, "has_nncf", lambda: True)
    monkeypatch.setattr(numerics, "library_versions", lambda *names: {})
    with pytest.raises(EngineError, match="encodes it wrongly"):
        run(cohort_dir, store_path, encoder, precision="int8")
    assert not store_path.exists(), "int8 was asked for"
    config = EmbedConfig(device="cpu", precision="int8")
    with pytest.raises(EngineError, match="encodes it wrongly"):
        doctor.diagnose(encoder, config, cohort=read_cohort(cohort_dir), seconds=0.01)


@needs_int8
def test_an_encoder_too_far_from_fp32_in_int8_is_refused_with_what_helps(
    cohort_dir, store_path, encoder, monkeypatch
):
    monkeypatch.setattr(openvino_engine, "MIN_TRIAL_COSINE", 1.1)
    with pytest.raises(EngineError, match=r"wrongly: .*; leave out --precision int8"):
        run(cohort_dir, store_path, encoder, precision="int8")


def test_int8_is_refused_where_it_cannot_be_had(monkeypatch, encoder):
    def choose(choice, device=CPU):
        return choose_engine(choice, device=device, precision="int8", num_encodings=1)

    monkeypatch.setattr(engines, "has_openvino", lambda: True)
    monkeypatch.setattr(engines, "has_nncf", lambda: True)
    assert choose("auto") == choose("openvino") == "openvino", "however few the cells"
    with pytest.raises(EngineError, match="leave out --engine torch"):
        choose("torch")
    with pytest.raises(EngineError, match="on a CPU, got device cuda"):
        choose("auto", torch.device("cuda"))
    monkeypatch.setattr(engines, "has_nncf", lambda: False)
    with pytest.raises(EngineError, match=r"pip install 'aml-mil\[int8\]'"):
        choose("auto")
    if has_openvino():
        with pytest.raises(EngineError, match="expected cells to calibrate with"):
            OpenVinoEngine(encoder, precision="int8", views=("identity",))


@needs_int8
def test_a_store_of_another_precision_does_not_become_int8(cohort_dir, store_path, encoder):
    run(cohort_dir, store_path, encoder, engine="openvino")
    with pytest.raises(NumericsMismatchError, match="compute_dtype: store fp32, now int8"):
        run(cohort_dir, store_path, encoder, precision="int8")
