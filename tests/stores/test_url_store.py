"""Stores at URLs: what the contract of local stores asks, as far as a URL can promise it."""

import itertools
import json
from datetime import datetime, timedelta

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stores import (
    BagDamagedError,
    BagExistsError,
    BagNotFoundError,
    InvalidBagError,
    NotAStoreError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
    copy_store,
    create_store,
    diff_stores,
    open_or_create_store,
    open_store,
    pack_bags,
    repair_store,
    store_info,
    verify_store,
)
from stores.location import is_url, locate
from stores.url_folder import UrlFolder
from tests.s3_server import s3_server as s3_server
from tests.stores.contract import MORE_IDS, ODD_IDS
from tests.stores.samples import bag_values, make_bag, make_manifest

NUMBERS = itertools.count()


@pytest.fixture(
    params=["memory", "file", pytest.param("s3", marks=pytest.mark.slow)],
)
def url(request, tmp_path, monkeypatch) -> str:
    number = next(NUMBERS)
    if request.param == "file":
        return f"file://{tmp_path}/cohort.zarr"
    if request.param == "memory":
        return f"memory://{number}/cohort.zarr"
    address = request.getfixturevalue("s3_server")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").mkdir(f"bucket-{number}")
    return f"s3://bucket-{number}/cohort.zarr"


@pytest.fixture
def store(url):
    return create_store(url, make_manifest())


def files_of(url: str) -> fsspec.AbstractFileSystem:
    return fsspec.url_to_fs(url, use_listings_cache=False)[0]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("s3://bucket/a.zarr/", "s3://bucket/a.zarr"),
        ("s3:/bucket/a.zarr", "s3://bucket/a.zarr"),
        ("file:///tmp/a.zarr", "file:///tmp/a.zarr"),
        ("file:/tmp/a.zarr", "file:///tmp/a.zarr"),
    ],
)
def test_a_url_survives_pathlib(given, found):
    assert is_url(locate(given))
    assert str(locate(given)) == found
    assert not is_url(locate("/tmp/s3/a.zarr"))
    assert not is_url(locate("C:/a.zarr"))


def test_a_reopened_store_returns_what_was_written(store, url):
    bag = make_bag()
    store.write(bag)
    with open_store(url) as reopened:
        assert bag_values(reopened.read("AQK")) == bag_values(bag)
        assert reopened.manifest == store.manifest
        assert reopened.bag_ids == ("AQK",)
        assert "AQK" in reopened
        assert [record.error for record in verify_store(reopened)] == [None]
        assert str(reopened.path) == url


def test_odd_ids_come_back_and_do_not_meet(store, url):
    ids = (*ODD_IDS[:6], *MORE_IDS[:3], "x" * 200)
    for seed, bag_id in enumerate(ids):
        store.write(make_bag(bag_id, seed=seed))
    reopened = open_store(url)
    assert reopened.bag_ids == tuple(sorted(ids))
    for seed, bag_id in enumerate(ids):
        assert bag_values(reopened.read(bag_id)) == bag_values(make_bag(bag_id, seed=seed))


def test_the_first_commit_wins_and_a_replacement_leaves_the_new_bag_only(store):
    store.write(make_bag(seed=1))
    with pytest.raises(BagExistsError, match="'AQK'"):
        store.write(make_bag(seed=2))
    assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))
    store.replace(make_bag(seed=3, coords=None))
    assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=3, coords=None))
    assert not any("coords" in name for name in store._folder.sizes())


def test_a_deleted_bag_is_gone_and_can_be_written_again(store):
    for ask in (store.read, store.record, store.delete):
        with pytest.raises(BagNotFoundError, match="'AQK'"):
            ask("AQK")
    store.write(make_bag())
    store.delete("AQK")
    assert (len(store), "AQK" in store) == (0, False)
    store.write(make_bag())
    assert len(store) == 1


def test_a_refused_bag_leaves_nothing(store):
    with pytest.raises(InvalidBagError):
        store.write(make_bag(features=np.full((5, 8), np.nan, np.float16)))
    assert len(store) == 0
    with pytest.raises(StoreMismatchError, match="encoder"):
        open_or_create_store(str(store.path), make_manifest(encoder="other"))


@pytest.mark.parametrize("fault", ["flip", "cut", "remove", "empty"])
@pytest.mark.parametrize("name", ["bag.json", "features/c/0/0", "views/zarr.json"])
def test_damage_is_an_error_and_is_repaired_by_dropping(store, url, fault, name):
    store.write(make_bag())
    store.write(make_bag("BZF"))
    files, path = files_of(url), f"{store._folder._root}/bags/AQK/{name}"
    data = bytearray(files.cat_file(path))
    data[len(data) // 2] ^= 1
    if fault == "remove":
        files.rm_file(path)
    else:
        files.pipe_file(path, {"flip": bytes(data), "cut": bytes(data[:-3]), "empty": b""}[fault])
    error = BagNotFoundError if (fault, name) == ("remove", "bag.json") else BagDamagedError
    with pytest.raises(error, match="'AQK'"):
        store.read("AQK")
    assert bag_values(store.read("BZF")) == bag_values(make_bag("BZF"))
    actions = {record.name: record.action for record in repair_store(store)}
    assert actions.get("AQK", "dropped") == "dropped"
    assert open_store(url).bag_ids == ("BZF",)


def test_a_manifest_that_is_damaged_or_missing_is_told(store, url):
    path = f"{store._folder._root}/manifest.json"
    files_of(url).rm_file(path)
    with pytest.raises(NotAStoreError, match=r"no manifest\.json"):
        open_store(url)
    files_of(url).pipe_file(path, b"{}")
    with pytest.raises(StoreError, match="damaged"):
        open_store(url)


def test_nothing_is_built_around_files_that_are_not_a_stores(url):
    files, root = fsspec.url_to_fs(url)
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/thesis.doc", b"1")
    with pytest.raises(NotAStoreError, match=r"thesis\.doc"):
        create_store(url, make_manifest())


def test_copies_to_and_from_a_url_are_equal(url, tmp_path):
    local = create_store(tmp_path / "local.h5store", make_manifest())
    for seed, bag_id in enumerate(("AQK", "BZF", "C/D")):
        local.write(make_bag(bag_id, seed=seed))
    assert len(list(copy_store(local, url))) == 3
    with open_store(url) as remote:
        assert all(diff.is_equal for diff in diff_stores(local, remote))
        list(copy_store(remote, tmp_path / "back.zarr"))
        np.testing.assert_array_equal(pack_bags(remote).features, pack_bags(local).features)
        assert store_info(remote)["num_bags"] == 3
        assert store_info(remote)["num_bytes"] > 3 * 1_000
    with open_store(tmp_path / "back.zarr") as back:
        assert all(diff.is_equal for diff in diff_stores(local, back))


@pytest.mark.parametrize(("bag_id", "is_logged"), [("BZF", False), ("BZF", True), ("AQK", True)])
def test_a_copy_to_a_store_that_is_there_is_refused_and_touches_no_bag(
    store, url, tmp_path, bag_id, is_logged
):
    store.write(make_bag(seed=1))
    if is_logged:
        store.log({"event": "embed"})
    store.close()
    local = create_store(tmp_path / "local.zarr", make_manifest())
    local.write(make_bag(bag_id, seed=2))
    with pytest.raises(StoreExistsError, match="is there already"):
        list(copy_store(local, url))
    assert open_store(url).bag_ids == ("AQK",)
    assert bag_values(open_store(url).read("AQK")) == bag_values(make_bag(seed=1))


def test_an_interrupted_copy_to_a_url_is_continued(url, tmp_path):
    local = create_store(tmp_path / "local.zarr", make_manifest())
    for bag_id in ("AQK", "BZF"):
        local.write(make_bag(bag_id))
    interrupted = copy_store(local, url)
    next(interrupted)
    interrupted.close()
    assert [record.was_there for record in copy_store(local, url)] == [True, False]
    with pytest.raises(StoreExistsError, match="is there already"):
        list(copy_store(local, url))


def test_packing_reads_the_arrays_of_a_bag_once(store, monkeypatch):
    store.write(make_bag())
    real, names = UrlFolder.read, []

    def read(folder, name, *, max_bytes):
        names.append(name)
        return real(folder, name, max_bytes=max_bytes)

    monkeypatch.setattr(UrlFolder, "read", read)
    packed = pack_bags(store)
    np.testing.assert_array_equal(packed.features[0], make_bag().features)
    assert names.count("bags/AQK/features/c/0/0") == names.count("bags/AQK/colour/c/0/0") == 1


class TickingClock:
    """A millisecond passes between two looks at it, since events are ordered by these."""

    looks = itertools.count()

    @classmethod
    def now(cls, zone):
        return datetime(2024, 3, 6, tzinfo=zone) + timedelta(milliseconds=next(cls.looks))


def test_the_log_is_kept_by_writer(store, url, monkeypatch):
    monkeypatch.setattr("stores.log.datetime", TickingClock)
    store.log({"event": "embed", "cells": 3})
    store.close()
    with open_store(url) as other:
        other.log({"event": "done"})
        assert [event["event"] for event in other.read_log()] == ["embed", "done"]
    assert [event["event"] for event in open_store(url).read_log()] == ["embed", "done"]
    with pytest.raises(ValueError, match="time"):
        store.log({"time": 1})


class CutConnection(MemoryFileSystem):
    """Gives up after so many puts, as a client without a network does."""

    protocol = "cut"
    cachable = False
    puts_left = 10**9

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if CutConnection.puts_left <= 0:
            raise TimeoutError("no route to host")
        CutConnection.puts_left -= 1
        super().pipe_file(path, value, mode=mode, **kwargs)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("cut://", "memory://"))


def test_a_connection_cut_at_any_put_leaves_whole_bags_and_is_resumed(monkeypatch):
    fsspec.register_implementation("cut", CutConnection, clobber=True)
    undisturbed = create_store(f"memory://{next(NUMBERS)}/whole.zarr", make_manifest())
    undisturbed.write(make_bag())
    expected = undisturbed._folder.sizes("bags/AQK")
    for puts in range(len(expected)):
        url = f"cut://{next(NUMBERS)}/cut.zarr"
        store = create_store(url, make_manifest())
        monkeypatch.setattr(CutConnection, "puts_left", puts)
        with pytest.raises(ConnectionError, match=r"cannot be reached .*run the same command"):
            store.write(make_bag())
        monkeypatch.setattr(CutConnection, "puts_left", 10**9)
        assert "AQK" not in open_store(url)
        assert open_store(url).bag_ids == ()
        store.write(make_bag())
        assert bag_values(open_store(url).read("AQK")) == bag_values(make_bag())
        assert store._folder.sizes("bags/AQK") == expected


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(StoreError, match="no file system is known for nosuch://"):
        open_store("nosuch://bucket/a.zarr")
    with pytest.raises(ValueError, match=r"ends in \.zarr"):
        create_store(f"file://{tmp_path}/a.h5store", make_manifest())


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_said_and_not_created(url):
    if not url.startswith("s3"):
        pytest.skip("needs the server")
    missing = url.replace("bucket-", "missing-")
    with pytest.raises(StoreError, match="no bucket or folder of that name; create it first"):
        create_store(missing, make_manifest())
    assert not fsspec.filesystem("s3").exists(missing.rpartition("/")[0])


@pytest.mark.slow
def test_a_server_that_goes_away_is_one_clear_error(url, s3_server, monkeypatch):
    if not url.startswith("s3"):
        pytest.skip("needs the server")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        open_store(url)
    fsspec.filesystem("s3").clear_instance_cache()


def test_plain_zarr_finds_the_objects(store, url):
    store.write(make_bag())
    names = store._folder.sizes()
    assert {"zarr.json", "bags/zarr.json", "bags/AQK/zarr.json"} <= names.keys()
    metadata = json.loads(
        store._folder.read("bags/AQK/features/zarr.json", max_bytes=10**5).tobytes()
    )
    assert metadata["shape"] == [5, 8]
