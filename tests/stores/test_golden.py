"""Stores that version 1 wrote are read for ever."""

import json
import shutil

import pytest

from stores import (
    FeatureStore,
    StoreVersionError,
    commit_record,
    create_store,
    manifest_file,
    open_store,
    pack_bags,
    store_info,
    verify_store,
)
from stores.commit_record import encode_record
from stores.documents import Fields, encode_document
from tests.stores.golden import (
    EVENT,
    FOLDER,
    LONG_ID,
    NAMES,
    golden_bags,
    golden_manifest,
    library_versions,
    write_golden,
)
from tests.stores.samples import bag_values, folder_bytes


@pytest.fixture(params=NAMES)
def golden(request) -> FeatureStore:
    return open_store(FOLDER / request.param)


def test_version_1_is_read_as_it_was_written(golden):
    assert golden.manifest == golden_manifest()
    assert golden.bag_ids == ("AQK", LONG_ID)
    for bag in golden_bags():
        assert bag_values(golden.read(bag.bag_id)) == bag_values(bag)
    assert golden.read_log() == (EVENT,)
    assert [record.error for record in verify_store(golden)] == [None, None]
    assert store_info(golden)["classes"] == {"APL": 1}
    assert pack_bags(golden).offsets.tolist() == [0, 3, 5]


def test_a_store_of_version_1_is_grown(golden, tmp_path):
    path = tmp_path / golden.path.name
    shutil.copytree(golden.path, path)
    store = create_store(path, golden_manifest())
    store.delete("AQK")
    store.write(golden_bags()[0])
    assert bag_values(store.read("AQK")) == bag_values(golden_bags()[0])


def test_todays_writer_makes_the_same_store(golden, tmp_path):
    """To the byte with the libraries of then, else with the same content."""
    write_golden(tmp_path)
    new = open_store(tmp_path / golden.path.name)
    assert (new.path / "manifest.json").read_bytes() == (golden.path / "manifest.json").read_bytes()
    for bag_id in golden.bag_ids:
        assert new.record(bag_id) == golden.record(bag_id)
    if json.loads((FOLDER / "versions.json").read_text()) == library_versions():
        assert folder_bytes(new.path) == folder_bytes(golden.path)


def test_the_golden_stores_are_small_and_hold_every_array():
    assert sum(len(data) for data in folder_bytes(FOLDER).values()) < 60_000
    assert set(open_store(FOLDER / NAMES[0]).record("AQK").arrays) == set(commit_record.ARRAY_NAMES)


def test_a_later_version_reads_version_1_through_its_migrations(golden, monkeypatch):
    """What version 2 will do: state for manifest and bag how the older fields become its own."""
    seen = []

    def migrate(fields: Fields) -> Fields:
        seen.append(fields)
        return fields

    for module in (manifest_file, commit_record):
        monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
        monkeypatch.setattr(module, "MIGRATIONS", {1: migrate})
    store = open_store(golden.path)
    assert [bag_values(store.read(b.bag_id)) for b in golden_bags()] == [
        bag_values(bag) for bag in golden_bags()
    ]
    assert len(seen) > 2


def test_a_version_without_a_migration_is_not_guessed(golden, monkeypatch):
    monkeypatch.setattr(commit_record, "SCHEMA_VERSION", 2)
    assert all("no format version 1" in str(r.error) for r in verify_store(golden))


def test_a_bag_of_a_newer_version_is_refused_and_not_called_damaged(golden, tmp_path):
    path = tmp_path / golden.path.name
    shutil.copytree(golden.path, path)
    record, _ = golden.read_files("AQK")
    fields = json.loads(encode_record(record))
    del fields["checksum"]
    newer = encode_document({**fields, "schema_version": 2})
    (path / "bags" / "AQK" / "bag.json").write_bytes(newer)
    with pytest.raises(StoreVersionError, match=r"version 2.*pip install --upgrade"):
        open_store(path).read("AQK")
    with pytest.raises(StoreVersionError):
        list(verify_store(open_store(path)))
