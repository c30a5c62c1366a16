import itertools

import numpy as np
import pytest

from stores import (
    BagDamagedError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
    copy_store,
    create_store,
    files,
    merge_stores,
    open_store,
    verify_store,
)
from stores.copying import merged_manifest
from stores.staged_store import staged_path
from tests.stores.faults import FaultyOs
from tests.stores.samples import SUFFIXES, bag_values, folder_bytes, make_bag, make_manifest

BAGS = {"AQK": 1, "a/b": 2, "x" * 200: 3}


@pytest.fixture(params=itertools.product(SUFFIXES, SUFFIXES), ids="→".join)
def paths(request, tmp_path):
    first, second = request.param
    return tmp_path / f"source{first}", tmp_path / f"target{second}"


@pytest.fixture
def source(paths):
    store = create_store(paths[0], make_manifest())
    for bag_id, seed in BAGS.items():
        store.write(make_bag(bag_id, seed=seed))
    return store


def contents(store):
    return {bag_id: bag_values(store.read(bag_id)) for bag_id in store.bag_ids}


def test_a_copy_holds_the_same_bags_and_manifest(source, paths):
    records = list(copy_store(source, paths[1]))
    assert [record.bag_id for record in records] == list(source.bag_ids)
    assert [record.bags_done for record in records] == [1, 2, 3]
    assert {record.bags_total for record in records} == {3}
    copy = open_store(paths[1])
    assert contents(copy) == contents(source)
    assert copy.manifest == source.manifest
    assert copy.format == {".zarr": "zarr", ".h5store": "hdf5"}[paths[1].suffix]
    assert {entry.name for entry in paths[1].parent.iterdir()} == {p.name for p in paths}


def test_a_copy_and_back_is_the_same_bytes(source, paths, tmp_path):
    back = tmp_path / f"back{paths[0].suffix}"
    list(copy_store(source, paths[1]))
    list(copy_store(open_store(paths[1]), back))
    assert folder_bytes(back / "bags") == folder_bytes(source.path / "bags")
    assert (back / "manifest.json").read_bytes() == (paths[0] / "manifest.json").read_bytes()


def test_an_interrupted_copy_is_not_seen_and_continued(source, paths):
    copying = copy_store(source, paths[1])
    next(copying)
    copying.close()
    assert not paths[1].exists()
    records = list(copy_store(source, paths[1]))
    assert [record.was_there for record in records] == [True, False, False]
    assert contents(open_store(paths[1])) == contents(source)
    assert not staged_path(paths[1]).exists()


def test_what_an_interrupted_copy_left_damaged_or_outdated_is_copied_anew(source, paths):
    copying = copy_store(source, paths[1])
    for _ in BAGS:
        next(copying)
    copying.close()
    left = open_store(staged_path(paths[1]))
    left.write(make_bag("of another source"))
    (left.bag_path("AQK") / "bag.json").write_bytes(b"")
    left.replace(make_bag("a/b", seed=9))
    records = list(copy_store(source, paths[1]))
    was_there = {record.bag_id: record.was_there for record in records}
    assert was_there == {"AQK": False, "a/b": False, "x" * 200: True}
    assert contents(open_store(paths[1])) == contents(source)


def test_what_was_left_for_another_manifest_is_not_continued(source, paths):
    other = create_store(staged_path(paths[1]), make_manifest(encoder="other"))
    other.write(make_bag("AQK"))
    records = list(copy_store(source, paths[1]))
    assert not any(record.was_there for record in records)
    assert open_store(paths[1]).manifest == source.manifest
    assert contents(open_store(paths[1])) == contents(source)


def test_a_copy_over_something_is_refused(source, paths):
    paths[1].mkdir()
    for path in paths:
        with pytest.raises(StoreExistsError, match="is there already"):
            next(copy_store(source, path))
    assert not list(paths[1].iterdir())
    with pytest.raises(ValueError, match=r"\.zarr or \.h5store, got 'copy'"):
        next(copy_store(source, paths[1].with_name("copy")))


def test_a_damaged_bag_of_the_source_ends_the_copy_and_is_named(source, paths):
    [file] = [
        file
        for file in source.bag_path("AQK").rglob("*")
        if file.name == "AQK.h5" or file.as_posix().endswith("features/c/0/0")
    ]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BagDamagedError, match=r"'AQK'.*source") as caught:
        list(copy_store(source, paths[1]))
    assert "continues" in "".join(caught.value.__notes__)
    assert not paths[1].exists()
    source.delete("AQK")
    assert [r.was_there for r in copy_store(source, paths[1])] == [False, False]
    assert contents(open_store(paths[1])) == contents(source)


def test_a_copy_that_reads_back_otherwise_is_an_error(source, paths, monkeypatch):
    real = files.durable_write

    def durable_write(path, data):
        is_of_a_bag = path.parent.name != ".tmp" and path.name != "bag.json"
        real(path, bytes(data[:-1]) + b"?" if is_of_a_bag else data)

    monkeypatch.setattr(files, "durable_write", durable_write)
    with pytest.raises(BagDamagedError, match="other than it was copied"):
        list(copy_store(source, paths[1]))
    assert not paths[1].exists()
    monkeypatch.undo()
    list(copy_store(source, paths[1]))
    assert contents(open_store(paths[1])) == contents(source)


def test_a_full_disk_ends_the_copy_and_the_next_continues(source, paths, monkeypatch):
    monkeypatch.setattr(files, "os", FaultyOs(at=60, kind="ENOSPC"))
    with pytest.raises(OSError, match="injected") as caught:
        list(copy_store(source, paths[1]))
    monkeypatch.undo()
    assert str(paths[1].stem) in "".join(caught.value.__notes__)
    assert not paths[1].exists()
    list(copy_store(source, paths[1]))
    assert contents(open_store(paths[1])) == contents(source)


def test_two_processes_do_not_copy_to_one_place(source, paths):
    copying = copy_store(source, paths[1])
    next(copying)
    with pytest.raises(StoreError, match="another process"):
        next(copy_store(source, paths[1]))
    list(copying)
    assert contents(open_store(paths[1])) == contents(source)


def test_merged_stores_hold_the_bags_of_all(source, paths, tmp_path):
    second = create_store(tmp_path / "second.zarr", make_manifest(weights="elsewhere.bin"))
    second.write(make_bag("BZF", seed=7))
    list(merge_stores([source, second], paths[1]))
    merged = open_store(paths[1])
    assert contents(merged) == contents(source) | contents(second)
    assert merged.manifest == source.manifest
    assert [record.error for record in verify_store(merged)] == [None] * 4


def test_ids_in_common_are_named(source, paths, tmp_path):
    second = create_store(tmp_path / "second.zarr", make_manifest())
    for bag_id in ("AQK", "a/b", "new"):
        second.write(make_bag(bag_id))
    with pytest.raises(StoreMismatchError, match=r"2 of 4 ids .*: AQK, a/b;"):
        merge_stores([source, second], paths[1])
    assert not paths[1].exists()
    assert not staged_path(paths[1]).exists()


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"weights_sha256": "00"}, "weights_sha256: source.* '5f.*second.zarr '00'"),
        ({"views": ("identity",)}, "views"),
        ({"preprocessing": {"image_size_px": 96}}, "image_size_px: source.* 144, second.zarr 96"),
    ],
)
def test_stores_made_in_different_ways_are_not_merged(source, paths, tmp_path, changes, shown):
    second = create_store(tmp_path / "second.zarr", make_manifest(**changes))
    with pytest.raises(StoreMismatchError, match=shown):
        merge_stores([source, second], paths[1])
    assert not paths[1].exists()


def test_a_merge_of_nothing_or_of_a_store_with_itself_is_refused(source, paths):
    with pytest.raises(ValueError, match="nothing"):
        merge_stores([], paths[1])
    with pytest.raises(ValueError, match="twice"):
        merge_stores([source, open_store(source.path)], paths[1])


@pytest.mark.parametrize(
    ("trained_on", "expected"),
    [
        ((("A", "B"), ("C", "A")), ("A", "B", "C")),
        (((), ()), ()),
        (((), None), None),
        ((None, None), None),
        ((("A",), None), ("A",)),
    ],
)
def test_a_merged_manifest_names_all_patients_the_encoder_is_known_to_have_seen(
    trained_on, expected
):
    merged = merged_manifest([make_manifest(trained_on=ids) for ids in trained_on])
    assert merged.trained_on == expected


def test_a_merged_manifest_keeps_numerics_apart_that_differ():
    cpu, cuda = {"device_type": "cpu"}, {"device_type": "cuda"}
    manifests = [make_manifest(numerics=numerics) for numerics in (cpu, cuda, cpu)]
    assert merged_manifest(manifests[:1]).numerics == cpu
    assert merged_manifest(manifests).numerics == {"merged": [cpu, cuda]}
    assert merged_manifest(manifests).identity_sha256 == manifests[0].identity_sha256


def test_maps_of_float64_without_optional_arrays_are_copied(paths):
    manifest = make_manifest(views=("identity",), feature_shape=(2, 3, 3), dtype="float64")
    source = create_store(paths[0], manifest)
    nothing = dict.fromkeys(("colour", "coords", "instance_labels", "smear", "label"))
    source.write(make_bag(manifest=manifest, **nothing))
    source.write(make_bag("nan", manifest=manifest, coords=np.full((5, 2), np.nan, np.float32)))
    list(copy_store(source, paths[1]))
    assert contents(open_store(paths[1])) == contents(source)
