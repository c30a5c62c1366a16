"""A run over a store that was begun earlier."""

import dataclasses
import shutil

import pytest

from aml_mil import runtime
from aml_mil.embedding import DamagedCellError, NumericsMismatchError, PatientsFailedError, numerics
from aml_mil.embedding.engine import TorchEngine
from stores import StoreMismatchError, open_store
from tests.embedding.drawing import (
    LABELS,
    NUM_CELLS,
    bag_bytes,
    damage,
    draw_cell,
    draw_patient,
    interrupt_after_a_bag,
    run,
    start,
    tiny_encoder,
    write_table,
)


@pytest.fixture
def store(cohort_dir, store_path, encoder):
    """A finished store of three patients."""
    run(cohort_dir, store_path, encoder)
    return store_path


@pytest.fixture
def no_encoding(store, monkeypatch):
    """From now on, once the store is finished."""

    def refuse(*_, **__):
        raise AssertionError("nothing is to be encoded")

    monkeypatch.setattr(TorchEngine, "__init__", refuse)


@pytest.mark.usefixtures("no_encoding")
def test_a_finished_store_is_left_as_it_is(cohort_dir, store, encoder):
    before = bag_bytes(store)
    summary = run(cohort_dir, store, encoder)
    assert (summary.patients_embedded, summary.patients_skipped) == (0, 3)
    assert (summary.cells_embedded, summary.cells_skipped) == (0, sum(NUM_CELLS.values()))
    assert not summary.needs_attention
    assert bag_bytes(store) == before


def test_an_interrupted_run_is_finished_to_the_same_bytes(
    cohort_dir, store_path, tmp_path, encoder
):
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    run(cohort_dir, undisturbed, encoder, batch_size=2)
    interrupt_after_a_bag(start(cohort_dir, store_path, encoder, batch_size=2), store_path)
    with open_store(store_path) as store:
        kept = store.bag_ids
    assert kept in (("AQK",), ("AQK", "BZF")), "the second may be with the writer by then"
    summary = run(cohort_dir, store_path, encoder, batch_size=2)
    assert (summary.patients_embedded, summary.patients_skipped) == (3 - len(kept), len(kept))
    assert bag_bytes(store_path) == bag_bytes(undisturbed)


def test_bags_another_process_commits_meanwhile_stand(cohort_dir, store_path, tmp_path, encoder):
    damage(cohort_dir / "data/AML/CTL/image_0.png")
    slow = start(cohort_dir, store_path, encoder)
    steps = iter(slow)
    next(steps)
    run(cohort_dir, store_path, encoder)
    before = bag_bytes(store_path)
    list(steps)
    assert (slow.summary.patients_embedded, slow.summary.patients_skipped) == (0, 3)
    assert slow.summary.cells_skipped == sum(NUM_CELLS.values()) - 1
    assert [item.file for item in slow.summary.quarantined] == ["image_0.png"]
    assert bag_bytes(store_path) == before


def test_growth_embeds_new_patients_and_tells_changed_and_vanished_ones(cohort_dir, store, encoder):
    before = bag_bytes(store)
    draw_patient(cohort_dir, "NEW", "APL", 5)
    draw_patient(cohort_dir, "NOW", "AML", 3)
    draw_cell(cohort_dir / "data/APL/AQK/image_99.png")
    shutil.rmtree(cohort_dir / "data/AML/BZF")
    labels = {"AQK": "APL", "CTL": "AML", "NEW": "APL", "NOW": "AML"}
    write_table(cohort_dir, labels)

    summary = run(cohort_dir, store, encoder)

    assert (summary.patients_embedded, summary.patients_skipped) == (2, 2)
    assert summary.cells_embedded == 8
    assert [str(change) for change in summary.changed] == ["AQK: images added: image_99.png (1)"]
    assert summary.vanished == ("BZF",)
    assert summary.needs_attention
    after = bag_bytes(store)
    assert before == {name: after[name] for name in before}, "no bag is touched"
    with open_store(store) as opened:
        assert opened.bag_ids == ("AQK", "BZF", "CTL", "NEW", "NOW")


def test_refresh_embeds_the_changed_again_as_if_they_were_new(cohort_dir, store, tmp_path, encoder):
    draw_cell(cohort_dir / "data/APL/AQK/image_99.png")
    (cohort_dir / "data/AML/CTL/image_0.png").unlink()
    summary = run(cohort_dir, store, encoder, refresh=True)
    assert [patient.patient_id for patient in summary.refreshed] == ["AQK", "CTL"]
    assert not summary.needs_attention
    assert summary.cells_embedded == NUM_CELLS["AQK"] + 1 + NUM_CELLS["CTL"] - 1
    assert summary.cells_skipped == NUM_CELLS["BZF"]
    anew = tmp_path / f"anew{store.suffix}"
    run(cohort_dir, anew, encoder)
    assert bag_bytes(store) == bag_bytes(anew)


def test_strict_is_content_once_a_damaged_file_is_repaired_and_refreshed(
    cohort_dir, store_path, encoder
):
    path = cohort_dir / "data/AML/CTL/image_0.png"
    whole = path.read_bytes()
    damage(path)
    run(cohort_dir, store_path, encoder)
    path.write_bytes(whole)
    with pytest.raises(DamagedCellError, match=r"CTL/image_0\.png.*--refresh"):
        run(cohort_dir, store_path, encoder, strict=True)
    assert not run(cohort_dir, store_path, encoder, strict=True, refresh=True).quarantined


def test_dropping_the_vanished_removes_their_bags_alone(cohort_dir, store, encoder):
    shutil.rmtree(cohort_dir / "data/AML/BZF")
    write_table(cohort_dir, {"AQK": "APL", "CTL": "AML"})
    summary = run(cohort_dir, store, encoder, drop_vanished=True)
    assert (summary.dropped, summary.vanished) == (("BZF",), ())
    assert not summary.needs_attention
    with open_store(store) as opened:
        assert opened.bag_ids == ("AQK", "CTL")


def relabel(cohort_dir):
    (cohort_dir / "data/AML/CTL").rename(cohort_dir / "data/APL/CTL")
    write_table(cohort_dir, {**LABELS, "CTL": "APL"})


def give_attributes(cohort_dir):
    write_table(cohort_dir, LABELS, extra=",51")


def give_types(cohort_dir):
    (cohort_dir / "cell_annotations.csv").write_text(
        "patient_id,image,cell_type\nCTL,image_1.png,monocyte\n"
    )


def edit(cohort_dir):
    draw_cell(cohort_dir / "data/AML/CTL/image_1.png", size_px=33)


def cut(cohort_dir):
    damage(cohort_dir / "data/AML/CTL/image_1.png")


def rename(cohort_dir):
    folder = cohort_dir / "data/AML/CTL"
    (folder / "image_1.png").rename(folder / "image_7.png")


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (relabel, "label AML → APL"),
        (give_attributes, "attributes: age none → 51 (1)"),
        (give_types, "cell types: image_1.png none → monocyte (1)"),
        (edit, "contents of images differ"),
        (cut, "contents of images differ"),
        (rename, "images added: image_7.png (1); images removed: image_1.png (1)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.usefixtures("no_encoding")
def test_what_has_changed_is_said(cohort_dir, store, encoder, change, reasons):
    change(cohort_dir)
    summary = run(cohort_dir, store, encoder)
    assert f"CTL: {reasons}" in [str(change) for change in summary.changed]


def test_a_moved_and_touched_cohort_has_not_changed(cohort_dir, store, tmp_path, encoder):
    moved = tmp_path / "elsewhere"
    shutil.copytree(cohort_dir, moved, copy_function=shutil.copyfile)
    assert not run(moved, store, encoder).needs_attention


def test_a_damaged_bag_is_told_and_refresh_makes_it_anew(cohort_dir, store, encoder):
    before = bag_bytes(store)
    name = next(name for name in before if "CTL" in name and not name.endswith(".json"))
    (store / name).write_bytes(before[name][:-1])
    summary = run(cohort_dir, store, encoder)
    assert [change.patient_id for change in summary.changed] == ["CTL"]
    assert "its bag is damaged" in str(summary.changed[0])
    run(cohort_dir, store, encoder, refresh=True)
    assert bag_bytes(store) == before


def test_a_changed_patient_that_became_unreadable_keeps_its_bag(cohort_dir, store, encoder):
    before = bag_bytes(store)
    for path in (cohort_dir / "data/AML/CTL").iterdir():
        damage(path)
    with pytest.raises(PatientsFailedError, match="CTL: none of its 7 images"):
        run(cohort_dir, store, encoder, refresh=True)
    assert bag_bytes(store) == before


@pytest.mark.parametrize(
    ("other", "settings", "values"),
    [
        ({"seed": 1}, {}, ["weights_sha256"]),
        ({"image_size_px": 40}, {}, ["40", "32"]),
        ({}, {"views": "identity"}, ["hflip", "identity"]),
        ({}, {"dtype": "float32"}, ["float16", "float32"]),
    ],
    ids=["weights", "preprocessing", "views", "dtype"],
)
def test_a_store_made_otherwise_is_refused_with_both_values(
    cohort_dir, store, other, settings, values
):
    before = bag_bytes(store)
    with pytest.raises(StoreMismatchError) as caught:
        run(cohort_dir, store, tiny_encoder(**other), **settings)
    assert all(value in str(caught.value) for value in values)
    assert bag_bytes(store) == before


def test_the_same_weights_under_another_path_are_the_same_encoder(cohort_dir, store, encoder):
    renamed = dataclasses.replace(encoder, weights="elsewhere.safetensors")
    assert run(cohort_dir, store, renamed).patients_skipped == 3


def test_settings_left_open_follow_the_store(cohort_dir, store, tmp_path, encoder, monkeypatch):
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {**LABELS, "NEW": "APL"})
    monkeypatch.setattr(runtime, "has_native_bf16", lambda: True)
    monkeypatch.setitem(numerics.DEFAULT_BATCH_SIZES, "cpu", 5)
    run(cohort_dir, store, encoder, precision="auto", batch_size=None)
    anew = tmp_path / f"anew{store.suffix}"
    run(cohort_dir, anew, encoder, precision="fp32", batch_size=6)
    assert bag_bytes(store) == bag_bytes(anew)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bf16"}, "compute_dtype: store fp32, now bf16"),
        ({"batch_size": 7}, "batch_size: store 6, now 7"),
    ],
)
def test_other_numerics_than_the_stores_are_refused_with_both_values(
    cohort_dir, store, encoder, settings, message
):
    with pytest.raises(NumericsMismatchError, match=message):
        run(cohort_dir, store, encoder, **settings)


def test_another_version_or_device_type_than_the_stores_is_refused(
    cohort_dir, store, encoder, monkeypatch
):
    versions = numerics.library_versions
    monkeypatch.setattr(
        numerics, "library_versions", lambda *names: {**versions(*names), "torch": "9.9"}
    )
    with pytest.raises(NumericsMismatchError, match=r"versions: store .*, now .*torch 9\.9"):
        run(cohort_dir, store, encoder)


def test_patients_that_failed_are_tried_again(cohort_dir, store_path, encoder):
    folder = cohort_dir / "data/AML/BZF"
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for path in whole:
        damage(path)
    with pytest.raises(PatientsFailedError):
        run(cohort_dir, store_path, encoder)
    for path, data in whole.items():
        path.write_bytes(data)
    assert run(cohort_dir, store_path, encoder).patients_embedded == 1
