import os
import shutil
import socket
import subprocess
import sys

import pytest

from stores import create_store, files, open_store, repair_store, verify_store
from tests.stores.samples import SUFFIXES, bag_values, folder_bytes, make_bag, make_manifest

BAG_IDS = ("a", "b", "c", "x" * 200)


@pytest.fixture(params=SUFFIXES)
def store(request, tmp_path):
    store = create_store(tmp_path / f"cohort{request.param}", make_manifest())
    for seed, bag_id in enumerate(BAG_IDS):
        store.write(make_bag(bag_id, seed=seed))
    return store


def damage(store, bag_id):
    file = max((f for f in store.bag_path(bag_id).rglob("*") if f.is_file()), key=file_size)
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def file_size(file):
    return file.stat().st_size


def dead_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def stray(store, *, host=None, process=None, name=None):
    host = socket.gethostname() if host is None else host
    path = store.path / ".tmp" / (name or f"{host}-{process}-{'0a' * 8}")
    shutil.copytree(store.path / "bags" / "a", path)
    return path


def test_repair_drops_damaged_bags_and_touches_no_other(store):
    intact = {bag_id: bag_values(store.read(bag_id)) for bag_id in ("a", "c")}
    times = {file: file.stat().st_mtime_ns for file in store.bag_path("a").rglob("*")}
    damage(store, "b")
    (store.bag_path("x" * 200) / "bag.json").unlink()
    store = open_store(store.path)
    records = list(repair_store(store))
    assert [record.action for record in records] == ["intact", "dropped", "intact", "dropped"]
    assert store.bag_ids == ("a", "c")
    assert {bag_id: bag_values(store.read(bag_id)) for bag_id in store.bag_ids} == intact
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert [record.error for record in verify_store(store)] == [None, None]
    assert [event["action"] for event in store.read_log()] == ["dropped", "dropped"]
    for seed, bag_id in enumerate(BAG_IDS):
        if bag_id not in store:
            store.write(make_bag(bag_id, seed=seed))
    assert [record.error for record in verify_store(store)] == [None] * 4


def test_a_dry_run_says_the_same_and_does_nothing(store):
    damage(store, "b")
    stray(store, process=dead_process())
    before = folder_bytes(store.path)
    said = list(repair_store(store, dry_run=True))
    assert folder_bytes(store.path) == before
    assert list(repair_store(store)) == said
    assert [(r.what, r.action) for r in said if r.action != "intact"] == [
        ("bag", "dropped"),
        ("temporary", "removed"),
    ]


def test_an_intact_store_is_left_as_it_is(store):
    before = folder_bytes(store.path)
    assert {record.action for record in repair_store(store)} == {"intact"}
    assert folder_bytes(store.path) == before


def test_only_temporaries_of_dead_writers_are_removed(store):
    dead = stray(store, process=dead_process())
    kept = [
        stray(store, process=os.getpid()),
        stray(store, process=1),
        stray(store, process=dead_process(), host="another-host"),
        stray(store, name="somebody's notes"),
    ]
    partial = store.path / ".tmp" / f"{dead.name}.partial"
    partial.write_bytes(b"half a manifest")
    records = [record for record in repair_store(store) if record.what == "temporary"]
    removed = {record.name for record in records if record.action == "removed"}
    assert removed == {dead.name, partial.name}
    assert {record.name for record in records if record.action == "kept"} == {k.name for k in kept}
    assert not dead.exists()
    assert not partial.exists()
    assert all(path.is_dir() for path in kept)
    list(repair_store(store, all_temporaries=True))
    assert not list((store.path / ".tmp").iterdir())


def test_a_temporary_of_a_writer_that_was_killed_is_recognised(store):
    name = files.stage_name()
    assert [r.action for r in repair_store(store) if r.name == name] == []
    (store.path / ".tmp" / name).mkdir()
    assert [r.action for r in repair_store(store) if r.name == name] == ["kept"]
    ours, theirs = str(os.getpid()), str(dead_process())
    (store.path / ".tmp" / name).rename(store.path / ".tmp" / name.replace(ours, theirs))
    assert [r.action for r in repair_store(store) if r.what == "temporary"] == ["removed"]


def test_a_temporary_that_is_a_link_is_removed_and_not_what_it_points_to(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.docx").touch()
    link = store.path / ".tmp" / f"{socket.gethostname()}-{dead_process()}-{'0' * 16}"
    link.symlink_to(outside)
    assert [r.action for r in repair_store(store) if r.what == "temporary"] == ["removed"]
    assert not link.is_symlink()
    assert (outside / "thesis.docx").exists()


def test_an_error_that_passes_costs_no_bag(store, monkeypatch):
    real, failures = files.read_bytes, []

    def read_bytes(path, *, max_bytes):
        if "/b/" in path.as_posix() and not failures:
            failures.append(path)
            raise OSError(5, "Input/output error")
        return real(path, max_bytes=max_bytes)

    monkeypatch.setattr("stores.bag_folder.files.read_bytes", read_bytes)
    monkeypatch.setattr("stores.base.MAX_READ_ATTEMPTS", 1)
    assert {record.action for record in repair_store(store)} == {"intact"}
    assert failures
    assert "b" in store


def test_a_bag_replaced_before_it_was_dropped_stays(store):
    damage(store, "b")
    repairing = repair_store(store, num_threads=1)
    assert next(repairing).name == "a"
    store.replace(make_bag("b", seed=8))
    assert {record.action for record in repairing} == {"intact"}
    assert bag_values(store.read("b")) == bag_values(make_bag("b", seed=8))


def test_the_frame_is_written_anew(store):
    frame = [store.path / "zarr.json", store.path / "bags" / "zarr.json"]
    intact = folder_bytes(store.path)
    for document in frame:
        if store.format == "zarr":
            document.write_bytes(document.read_bytes().replace(b"group", b"groop"))
            assert [r.action for r in repair_store(store)].count("rewritten") == 1
    (store.path / "log.jsonl").unlink(missing_ok=True)
    assert folder_bytes(store.path) == intact


def test_a_store_that_lost_its_bags_folder_can_be_filled_again(store):
    shutil.rmtree(store.path / "bags")
    [record] = list(repair_store(store))
    assert (record.what, record.action) == ("frame", "rewritten")
    assert store.bag_ids == ()
    assert list(verify_store(store)) == []
    store.write(make_bag("a"))
    assert bag_values(store.read("a")) == bag_values(make_bag("a"))
