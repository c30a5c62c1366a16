"""A run over a new store."""

import dataclasses

import numpy as np
import pytest
import torch

from aml_mil.cohort import Cohort, decode_image, measure_colour, read_cohort
from aml_mil.embedding import DamagedCellError, EmbedConfig, EmbedError, PatientsFailedError
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.views import VIEW_SETS
from stores import open_store
from tests.embedding.drawing import (
    LABELS,
    NUM_CELLS,
    bag_bytes,
    damage,
    draw_cell,
    run,
    start,
    tiny_encoder,
    write_table,
)

NUM_ALL = sum(NUM_CELLS.values())


def test_every_cell_gets_the_features_of_its_own_image(cohort_dir, store_path, encoder):
    run(cohort_dir, store_path, encoder, batch_size=6)
    engine = TorchEngine(
        encoder,
        device=torch.device("cpu"),
        precision="fp32",
        views=VIEW_SETS["flips"],
        is_folded=True,
    )
    with open_store(store_path) as store:
        for patient in read_cohort(cohort_dir).patients:
            bag = store.read(patient.patient_id)
            assert bag.instance_ids == tuple(cell.instance_id for cell in patient.cells)
            assert bag.label == LABELS[patient.patient_id]
            for number, cell in enumerate(patient.cells):
                image = decode_image(cell.path.read_bytes())
                batch = np.zeros((6, *image.shape), dtype=np.uint8)
                batch[0] = image
                expected = engine.encode(batch)[:, 0].astype(np.float16)
                np.testing.assert_array_equal(bag.features[number], expected[0])
                np.testing.assert_array_equal(bag.views[:, number], expected[1:])
                np.testing.assert_array_equal(bag.colour[number], measure_colour(image))


def test_bags_do_not_depend_on_who_else_is_in_the_cohort(cohort_dir, tmp_path, encoder):
    run(cohort_dir, tmp_path / "together.zarr", encoder)
    cohort, apart = read_cohort(cohort_dir), {}
    for patient in reversed(cohort.patients):
        alone = Cohort(root=cohort.root, patients=(patient,))
        run(alone, tmp_path / f"{patient.patient_id}.zarr", encoder, workers=1)
        apart |= bag_bytes(tmp_path / f"{patient.patient_id}.zarr")
    assert apart == bag_bytes(tmp_path / "together.zarr")
    assert len(apart) > 3


def test_a_store_of_other_patients_is_left_alone(cohort_dir, tmp_path, encoder):
    cohort, store = read_cohort(cohort_dir), tmp_path / "one.zarr"
    first, *others = cohort.patients
    run(Cohort(root=cohort.root, patients=(first,)), store, encoder)
    before = bag_bytes(store)
    message = f"holds 1 patients, none of them in this cohort .*{others[0].patient_id}"
    with pytest.raises(EmbedError, match=message):
        run(Cohort(root=cohort.root, patients=tuple(others)), store, encoder, drop_vanished=True)
    assert bag_bytes(store) == before
    run(cohort, store, encoder)


def test_both_formats_hold_equal_arrays(cohort_dir, tmp_path, encoder):
    paths = [tmp_path / "a.zarr", tmp_path / "a.h5store"]
    for path in paths:
        run(cohort_dir, path, encoder)
    with open_store(paths[0]) as first, open_store(paths[1]) as second:
        assert first.bag_ids == second.bag_ids == tuple(sorted(LABELS))
        for bag_id in first.bag_ids:
            assert first.record(bag_id).sha256 == second.record(bag_id).sha256


def test_one_view_is_the_first_of_four(cohort_dir, tmp_path, encoder):
    run(cohort_dir, tmp_path / "four.zarr", encoder)
    run(cohort_dir, tmp_path / "one.zarr", encoder, views="identity")
    with open_store(tmp_path / "four.zarr") as four, open_store(tmp_path / "one.zarr") as one:
        assert one.manifest.views == ("identity",)
        assert one.read("AQK").views is None
        np.testing.assert_array_equal(one.read("AQK").features, four.read("AQK").features)


def test_float32_features_are_stored_unrounded(cohort_dir, tmp_path, encoder):
    run(cohort_dir, tmp_path / "half.zarr", encoder)
    run(cohort_dir, tmp_path / "full.zarr", encoder, dtype="float32")
    with open_store(tmp_path / "half.zarr") as half, open_store(tmp_path / "full.zarr") as full:
        exact = full.read("AQK").features
        assert exact.dtype == np.float32
        np.testing.assert_array_equal(exact.astype(np.float16), half.read("AQK").features)


def test_the_summary_counts_patients_cells_and_bytes(cohort_dir, store_path, encoder):
    summary = run(cohort_dir, store_path, encoder)
    assert (summary.patients_embedded, summary.patients_skipped) == (3, 0)
    assert (summary.cells_embedded, summary.cells_skipped) == (NUM_ALL, 0)
    assert summary.store_bytes == sum(
        f.stat().st_size for f in store_path.rglob("*") if f.is_file()
    ) - len((store_path / "log.jsonl").read_bytes().splitlines(keepends=True)[-1])
    assert summary.images_per_s > 0
    assert not summary.needs_attention


def test_progress_grows_to_the_totals(cohort_dir, store_path, encoder):
    steps = list(start(cohort_dir, store_path, encoder, batch_size=6))
    cells = [step.cells_done for step in steps]
    assert cells == [6, 12, 18, NUM_ALL]
    assert steps[-1].patients_done == steps[-1].patients_total == 3
    assert {step.phase for step in steps} == {"embed"}


def test_the_summary_is_not_there_before_the_end(cohort_dir, store_path, encoder):
    unfinished = start(cohort_dir, store_path, encoder)
    next(iter(unfinished))
    with pytest.raises(RuntimeError, match="not finished"):
        _ = unfinished.summary


def test_a_damaged_file_is_quarantined_named_and_counted(cohort_dir, store_path, encoder):
    damage(cohort_dir / "data/APL/AQK/image_2.png")
    summary = run(cohort_dir, store_path, encoder)
    assert [(q.patient_id, q.file) for q in summary.quarantined] == [("AQK", "image_2.png")]
    assert summary.quarantined[0].reason
    assert summary.cells_embedded == NUM_ALL - 1
    with open_store(store_path) as store:
        bag = store.read("AQK")
    assert [item.file for item in bag.quarantined] == ["image_2.png"]
    assert "image_2.png" not in bag.instance_ids
    assert len(bag.features) == len(bag.colour) == NUM_CELLS["AQK"] - 1
    again = run(cohort_dir, store_path, encoder)
    assert again.quarantined == summary.quarantined, "a later run names it, too"
    assert not again.needs_attention


def test_a_damaged_file_leaves_the_other_cells_features_as_they_were(cohort_dir, tmp_path, encoder):
    run(cohort_dir, tmp_path / "whole.zarr", encoder)
    damage(cohort_dir / "data/APL/AQK/image_0.png")
    run(cohort_dir, tmp_path / "damaged.zarr", encoder)
    with open_store(tmp_path / "whole.zarr") as whole, open_store(tmp_path / "damaged.zarr") as cut:
        np.testing.assert_array_equal(cut.read("AQK").features, whole.read("AQK").features[1:])
        np.testing.assert_array_equal(cut.read("AQK").colour, whole.read("AQK").colour[1:])


def test_strict_stops_at_the_first_damaged_file(cohort_dir, store_path, encoder):
    damage(cohort_dir / "data/AML/CTL/image_3.png")
    with pytest.raises(DamagedCellError, match=r"CTL/image_3\.png: .*--strict"):
        run(cohort_dir, store_path, encoder, strict=True)
    run(cohort_dir, store_path, encoder)
    with pytest.raises(DamagedCellError, match=r"CTL/image_3\.png"):
        run(cohort_dir, store_path, encoder, strict=True)


def test_a_patient_without_a_readable_image_fails_and_nobody_else(cohort_dir, store_path, encoder):
    for path in (cohort_dir / "data/APL/AQK").iterdir():
        damage(path)
    unlucky = start(cohort_dir, store_path, encoder)
    with pytest.raises(PatientsFailedError, match=r"AQK: none of its 9 images .* \(1 of 3\)"):
        list(unlucky)
    assert [patient.patient_id for patient in unlucky.summary.failed] == ["AQK"]
    with open_store(store_path) as store:
        assert store.bag_ids == ("BZF", "CTL")


def test_a_patient_without_images_fails_and_nobody_else(cohort_dir, store_path, encoder):
    cohort = read_cohort(cohort_dir)
    first, *others = cohort.patients
    bare = dataclasses.replace(first, cells=())
    with pytest.raises(PatientsFailedError, match="AQK: it has no images"):
        run(dataclasses.replace(cohort, patients=(bare, *others)), store_path, encoder)
    with open_store(store_path) as store:
        assert store.bag_ids == ("BZF", "CTL")
    run(cohort, store_path, encoder)
    summary = run(dataclasses.replace(cohort, patients=(bare, *others)), store_path, encoder)
    assert "AQK: images removed: image_0.png, " in str(summary.changed[0])


def test_a_file_that_cannot_be_read_fails_its_patient_and_nobody_else(
    cohort_dir, store_path, encoder
):
    cohort = read_cohort(cohort_dir)
    (cohort_dir / "data/AML/BZF/image_1.png").unlink()
    unlucky = start(cohort, store_path, encoder)
    message = r"BZF: cannot read image_1\.png: No such file or directory \(1 of 4 files\)"
    with pytest.raises(PatientsFailedError, match=message):
        list(unlucky)
    with open_store(store_path) as store:
        assert store.bag_ids == ("AQK", "CTL")


def test_features_too_large_for_the_store_fail_the_patient_by_name(cohort_dir, tmp_path):
    loud = tiny_encoder()
    with torch.no_grad():
        for parameter in loud.module.parameters():
            parameter.mul_(6)
    unlucky = start(cohort_dir, tmp_path / "a.zarr", loud)
    with pytest.raises(PatientsFailedError, match=r"AQK: features of instance .*too large"):
        list(unlucky)


def test_byte_identical_copies_are_reported(cohort_dir, store_path, encoder):
    original = cohort_dir / "data/APL/AQK/image_0.png"
    (cohort_dir / "data/AML/BZF/image_9.png").write_bytes(original.read_bytes())
    expected = (("AQK", "image_0.png"), ("BZF", "image_9.png"))
    for _ in range(2):
        summary = run(cohort_dir, store_path, encoder)
        assert [copies.members for copies in summary.copies] == [expected]


def test_a_cohort_of_one_label_is_fine(cohort_dir, store_path, encoder):
    cohort = read_cohort(cohort_dir, classes=["AML"])
    assert run(cohort, store_path, encoder).patients_embedded == 2


def test_annotations_smears_and_attributes_are_stored(cohort_dir, tmp_path, encoder):
    write_table(cohort_dir, LABELS, extra=",51")
    smear = cohort_dir / "data/APL/AQK/smear_b"
    smear.mkdir()
    draw_cell(smear / "image_0.png")
    (cohort_dir / "cell_annotations.csv").write_text(
        "patient_id,image,cell_type\nAQK,image_1.png,myeloblast\n"
    )
    run(cohort_dir, tmp_path / "a.zarr", encoder)
    with open_store(tmp_path / "a.zarr") as store:
        bag, plain = store.read("AQK"), store.read("BZF")
    kinds = dict(zip(bag.instance_ids, bag.instance_labels, strict=True))
    assert kinds["image_1.png"] == "myeloblast"
    assert set(kinds.values()) == {"", "myeloblast"}
    smears = dict(zip(bag.instance_ids, bag.smear, strict=True))
    assert smears["smear_b/image_0.png"] == "smear_b"
    assert smears["image_0.png"] == ""
    assert bag.attributes["age"] == 51
    assert plain.instance_labels is plain.smear is plain.coords is None


def test_the_log_counts_every_encoded_image(cohort_dir, store_path, encoder):
    run(cohort_dir, store_path, encoder)
    with open_store(store_path) as store:
        events = store.read_log()
    assert [event["event"] for event in events][0 :: len(events) - 1] == ["run_start", "run_end"]
    images = [event["images"] for event in events if event["event"] == "batch"]
    assert sum(images) == NUM_ALL
    bags = {event["bag_id"]: event["cells"] for event in events if event["event"] == "bag"}
    assert bags == NUM_CELLS


def test_a_store_needs_one_of_the_two_suffixes(cohort_dir, tmp_path, encoder):
    with pytest.raises(EmbedError, match=r"\.zarr or \.h5store"):
        run(cohort_dir, tmp_path / "features.npz", encoder)


@pytest.mark.parametrize(
    "settings",
    [{"views": "shared"}, {"precision": "int4"}, {"batch_size": 0}, {"workers": -1}, {"dtype": ""}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"expected {next(iter(settings))}"):
        EmbedConfig(**settings)
