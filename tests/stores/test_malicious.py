"""Crafted stores, checksums and all: they run nothing, write nothing, and take no memory."""

import json
import os
import tracemalloc
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from stores import (
    BagDamagedError,
    StoreDamagedError,
    create_store,
    open_store,
    pack_bags,
    store_info,
    verify_store,
)
from stores.arrays import COUNT, content_sha256
from stores.documents import MAX_DOCUMENT_BYTES
from stores.errors import InvalidBagError
from stores.schema import MAX_ARRAY_BYTES, ArraySpec
from tests.stores.crafting import changed, forge, forge_array, forge_h5, publish
from tests.stores.samples import SUFFIXES, bag_values, folder_bytes, make_bag, make_manifest

MAX_BYTES = 2**24  # what reading a small bag may take at most


@contextmanager
def little_memory():
    """Fail if more memory is asked for than a small bag can need, even if it is never touched."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.fixture(params=SUFFIXES)
def store(request, tmp_path):
    store = create_store(tmp_path / f"cohort{request.param}", make_manifest())
    store.write(make_bag("AQK"))
    store.write(make_bag("BZF"))
    list(verify_store(store))  # whatever the libraries import is imported
    return store


@pytest.fixture
def h5_store(tmp_path):
    store = create_store(tmp_path / "cohort.h5store", make_manifest())
    store.write(make_bag("AQK"))
    list(verify_store(store))
    return store


@pytest.fixture
def zarr_store(tmp_path):
    store = create_store(tmp_path / "cohort.zarr", make_manifest())
    store.write(make_bag("AQK"))
    list(verify_store(store))
    return store


def errors(store):
    return {record.bag_id: record.error for record in verify_store(store) if record.error}


def assert_verify_refuses(store, message):
    before = folder_bytes(store.path.parent)
    with little_memory():
        found = errors(store)
    assert list(found) == ["AQK"]
    assert message in found["AQK"]
    assert folder_bytes(store.path.parent) == before


@pytest.mark.parametrize("num", [2**20, 2**40, 2**62, 10**30])
def test_absurd_claims_in_bag_json_are_refused_before_anything_is_allocated(store, num):
    record, _ = store.read_files("AQK")
    spec = ArraySpec(shape=(num, 8), dtype="float16")
    forge_array(store, "AQK", "features", spec=spec, nbytes=num * 16)
    with little_memory(), pytest.raises(BagDamagedError, match="'AQK'"):
        store.read("AQK")
    bag = changed(record.bag, num_instances=num)
    publish(store, "AQK", changed(record, bag=bag))
    with little_memory():
        with pytest.raises(BagDamagedError, match="'AQK'"):
            store.record("AQK")
        with pytest.raises(BagDamagedError, match="'AQK'"):
            store_info(store)
        assert list(errors(store)) == ["AQK"]


def test_an_array_over_the_limit_is_refused_by_the_limit(store):
    spec = ArraySpec(shape=(5, 2**28), dtype="float32")
    forge_array(store, "AQK", "features", spec=spec, nbytes=5 * 2**30)
    with pytest.raises(BagDamagedError, match=f"claims {5 * 2**30} bytes, .* {MAX_ARRAY_BYTES}"):
        store.read("AQK")


def test_a_bag_that_agrees_with_itself_but_not_with_its_files_is_not_packed(store):
    """Every array claims a million instances, consistently; the files are as small as they were."""
    record, _ = store.read_files("AQK")
    num = 2**20
    arrays = {}
    for name, entry in record.arrays.items():
        axis = 1 if name == "views" else 0
        shape = tuple(num if i == axis else d for i, d in enumerate(entry.spec.shape))
        spec = ArraySpec(shape=shape, dtype=entry.spec.dtype)
        is_text = spec.dtype == "utf8"
        nbytes = entry.nbytes if is_text else int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
        arrays[name] = changed(entry, spec=spec, nbytes=nbytes)
    specs = {name: entry.spec for name, entry in arrays.items()}
    bag = changed(record.bag, num_instances=num, arrays=specs)
    sha256 = content_sha256({name: (entry.spec, entry.sha256) for name, entry in arrays.items()})
    publish(store, "AQK", changed(record, arrays=arrays, bag=changed(bag, sha256=sha256)))
    assert store.record("AQK").num_instances == num
    with little_memory(), pytest.raises(BagDamagedError, match=r"'AQK'.*claims"):
        pack_bags(store)
    with little_memory(), pytest.raises(BagDamagedError, match="'AQK'"):
        store.read("AQK")


@pytest.mark.parametrize("name", ["../BZF/bag.json", "/etc/passwd", "..", "features/../../x"])
def test_bag_json_cannot_name_files_elsewhere(store, name):
    record, _ = store.read_files("AQK")
    entry = next(iter(record.files.values()))
    for files in ({**record.files, name: entry}, {name: entry}):
        publish(store, "AQK", changed(record, files=files))
        with pytest.raises(BagDamagedError, match="names other files"):
            store.read("AQK")


def test_documents_longer_than_the_limit_are_neither_written_nor_read(store, monkeypatch):
    assert MAX_DOCUMENT_BYTES == 64 * 2**20
    for module in ("documents", "bag_folder", "manifest_file"):
        monkeypatch.setattr(f"stores.{module}.MAX_DOCUMENT_BYTES", 2**16)
    with pytest.raises(InvalidBagError, match=r"'big'.*at most 65536"):
        store.write(make_bag("big", attributes={"note": "x" * 2**16}))
    assert "big" not in store
    with pytest.raises(ValueError, match="at most 65536"):
        create_store(store.path.with_stem("big"), make_manifest(numerics={"note": "x" * 2**16}))
    assert not store.path.with_stem("big").exists()
    for file, error in (
        ("bags/AQK/bag.json", BagDamagedError),
        ("manifest.json", StoreDamagedError),
    ):
        with (store.path / file).open("r+b") as opened:
            opened.truncate(2**40)  # a hole: takes no space on the disk
        with little_memory(), pytest.raises(error, match="at most 65536"):
            open_store(store.path).read("AQK")


def test_a_file_of_holes_is_refused_before_it_is_read(store):
    for name in folder_bytes(store.bag_path("AQK")):
        file = store.bag_path("AQK") / name
        size = file.stat().st_size
        os.truncate(file, 2**40)
        with little_memory(), pytest.raises(BagDamagedError, match="expected at most"):
            store.read("AQK")
        os.truncate(file, size)
    assert bag_values(store.read("AQK")) == bag_values(make_bag("AQK"))


def test_a_deeply_nested_document_is_an_error(store):
    (store.bag_path("AQK") / "bag.json").write_bytes(b'{"a":' * 200_000)
    with little_memory(), pytest.raises(BagDamagedError, match="'AQK'"):
        store.read("AQK")


# HDF5: what h5py would do with the file, if it were let


def huge(file):
    del file["features"]
    file.create_dataset("features", shape=(2**40, 8), dtype="f2", chunks=(64, 8))


def bomb(file):
    """A chunk of 1 GiB, a few bytes on the disk."""
    del file["features"]
    file.create_dataset(
        "features", shape=(5, 8), maxshape=(None, 8), dtype="f2", chunks=(2**26, 8), compression=9
    )


def external(file):
    del file["features"]
    file.create_dataset(
        "features", shape=(5, 8), dtype="f2", external=[("/etc/passwd", 0, 80)], track_times=False
    )


def virtual(file):
    del file["features"]
    layout = h5py.VirtualLayout(shape=(5, 8), dtype="f2")
    layout[:] = h5py.VirtualSource("secret.h5", "features", shape=(5, 8))
    file.create_virtual_dataset("features", layout)


def vlen(file):
    del file["features"]
    file.create_dataset("features", shape=(5, 8), dtype=h5py.string_dtype(), chunks=(5, 8))


def external_link(file):
    del file["features"]
    file["features"] = h5py.ExternalLink("secret.h5", "/features")


def soft_link(file):
    del file["features"]
    file["features"] = h5py.SoftLink("/colour")


def group(file):
    del file["features"]
    file.create_group("features")


def extra(file):
    file["more"] = h5py.ExternalLink("secret.h5", "/features")


@pytest.mark.parametrize(
    "make", [huge, bomb, external, virtual, vlen, external_link, soft_link, group, extra]
)
def test_a_crafted_h5_is_refused_before_h5py_reads_it(h5_store, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        secret = np.full((5, 8), 42, np.float16)
        file.create_dataset("features", data=secret, chunks=(5, 8), fletcher32=True)
    expected = bag_values(make_bag("AQK"))["features"]
    forge_h5(h5_store, "AQK", make)
    assert_verify_refuses(h5_store, "the hdf5 library cannot read it")
    # direct readers never ask HDF5: they take the recorded bytes, or say that they are not those
    with little_memory():
        assert bag_values(h5_store.read("AQK"))["features"] == expected


# Zarr: what zarr would do with the metadata, if it were let


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**40, 8]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**40, 8]}}},
        {"data_type": "float64"},
        {"data_type": "string"},
        {"codecs": [{"name": "bytes"}, {"name": "zstd"}]},
        {"codecs": [{"name": "numcodecs.pickle"}]},
        {"codecs": []},
        {"codecs": "bytes"},
    ],
)
def test_crafted_zarr_metadata_is_refused_before_zarr_acts_on_it(zarr_store, changes):
    name = "features/zarr.json"
    fields = json.loads((zarr_store.bag_path("AQK") / name).read_bytes())
    forge(zarr_store, "AQK", name, json.dumps({**fields, **changes}).encode())
    assert_verify_refuses(zarr_store, "the zarr library cannot read it")
    assert bag_values(zarr_store.read("AQK")) == bag_values(make_bag("AQK"))


def test_texts_that_announce_billions_are_refused(zarr_store):
    """A count of texts in front of the recorded bytes, which start behind it."""
    name = "instance_ids/c/0"
    data = (zarr_store.bag_path("AQK") / name).read_bytes()
    forge(zarr_store, "AQK", name, COUNT.pack(2**32 - 1) + data)
    forge_array(zarr_store, "AQK", "instance_ids", offset=COUNT.size)
    assert_verify_refuses(zarr_store, "the zarr library cannot read it")
    with little_memory():
        assert zarr_store.read("AQK").instance_ids == make_bag().instance_ids
    forge(zarr_store, "AQK", name, data)
    forge_array(zarr_store, "AQK", "instance_ids", offset=0)
    assert errors(zarr_store) == {}
