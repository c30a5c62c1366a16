import errno
import json
import os
import threading

import pytest

from stores import (
    NotAStoreError,
    StoreDamagedError,
    StoreMismatchError,
    StoreVersionError,
    create_store,
    files,
    open_or_create_store,
    open_store,
)
from stores.documents import encode_document
from stores.manifest_file import encode_manifest
from tests.stores.faults import FaultyOs
from tests.stores.samples import SUFFIXES, make_bag, make_manifest


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"cohort{request.param}"


def test_the_suffix_chooses_the_format(tmp_path):
    assert create_store(tmp_path / "a.zarr", make_manifest()).format == "zarr"
    assert create_store(str(tmp_path / "a.h5store"), make_manifest()).format == "hdf5"
    with pytest.raises(ValueError, match=r"\.zarr or \.h5store, got 'a\.h5'"):
        create_store(tmp_path / "a.h5", make_manifest())
    assert not (tmp_path / "a.h5").exists()


def test_the_content_not_the_suffix_is_opened(path, tmp_path):
    create_store(path, make_manifest()).write(make_bag())
    for name in ("renamed", "renamed.zarr", "renamed.h5store"):
        path = path.rename(tmp_path / name)
        assert open_store(path).read("AQK").label == "APL"


def test_opening_writes_nothing(path):
    create_store(path, make_manifest()).write(make_bag())
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    store = open_store(path)
    store.read("AQK")
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_the_manifest_comes_back_as_it_was_given(path):
    for trained_on in (None, (), ("B", "A")):
        manifest = make_manifest(trained_on=trained_on)
        target = path.with_stem(f"trained-{trained_on}")
        assert create_store(target, manifest).manifest == manifest
        assert open_store(target).manifest.trained_on == trained_on


def test_open_or_create_keeps_the_bags(path):
    open_or_create_store(path, make_manifest()).write(make_bag())
    assert open_or_create_store(path, make_manifest()).bag_ids == ("AQK",)


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_what_is_no_store_is_not_opened(path, make):
    getattr(path, make)()
    with pytest.raises(NotAStoreError, match=r"no manifest\.json"):
        open_store(path)


def test_nothing_is_not_opened(path):
    with pytest.raises(NotAStoreError, match=r"there is nothing at .*; check the path"):
        open_store(path)


def test_nothing_is_created_around_foreign_files(path):
    path.mkdir()
    (path / "thesis.docx").touch()
    with pytest.raises(NotAStoreError, match=r"thesis\.docx"):
        create_store(path, make_manifest())
    assert [entry.name for entry in path.iterdir()] == ["thesis.docx"]


def test_nothing_is_created_in_place_of_a_file(path):
    path.write_text("mine")
    with pytest.raises(NotAStoreError, match="is a file"):
        create_store(path, make_manifest())
    assert path.read_text() == "mine"


def test_missing_folders_above_are_made_and_synced_before_the_store(path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_dir", synced.append)
    target = path / "deeper" / path.name
    create_store(target, make_manifest()).write(make_bag())
    assert open_store(target).bag_ids == ("AQK",)
    assert synced[:2] == [path.parent, path]


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_store(path):
    path.write_text("a file")
    with pytest.raises(NotADirectoryError) as caught:
        create_store(path / "deeper" / path.name, make_manifest())
    assert "deeper" in caught.value.__notes__[0]


def test_bags_without_a_manifest_are_not_taken_over(path):
    create_store(path, make_manifest()).write(make_bag())
    (path / "manifest.json").unlink()
    with pytest.raises(NotAStoreError):
        open_store(path)
    with pytest.raises(StoreDamagedError, match=r"bags but no manifest\.json"):
        create_store(path, make_manifest())


def test_creation_interrupted_at_any_call_is_completed_by_the_next(path, monkeypatch):
    for at in range(200):
        target = path.with_stem(f"at{at}")
        faulty, failure = FaultyOs(at=at, kind="EIO"), None
        monkeypatch.setattr(files, "os", faulty)
        try:
            create_store(target, make_manifest())
        except OSError as error:
            failure = error
        monkeypatch.undo()
        if failure is None:
            break
        assert str(target) in "".join(failure.__notes__)
        create_store(target, make_manifest()).write(make_bag())
        assert open_store(target).bag_ids == ("AQK",)
    assert at == len(faulty.calls)
    assert at > 10


def test_two_creators_agree_on_one_manifest(path):
    """All of several threads get the same store, or are told that theirs differs."""
    manifests, outcomes = [make_manifest(encoder=name) for name in "abcd"], []

    def create(manifest) -> None:
        try:
            outcomes.append(create_store(path, manifest).manifest)
        except StoreMismatchError:
            outcomes.append(None)

    threads = [threading.Thread(target=create, args=(manifest,)) for manifest in manifests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert [outcome for outcome in outcomes if outcome] == [open_store(path).manifest]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_hard_links_will_do(path, monkeypatch, code):
    def link(*_: object) -> None:
        raise OSError(code, "no hard links here")

    monkeypatch.setattr(os, "link", link)
    create_store(path, make_manifest()).write(make_bag())
    with pytest.raises(StoreMismatchError):
        create_store(path, make_manifest(encoder="other"))
    assert open_store(path).bag_ids == ("AQK",)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[1]"])
def test_a_damaged_manifest_names_the_store(path, data):
    create_store(path, make_manifest())
    (path / "manifest.json").write_bytes(data)
    for ask in (open_store, lambda p: create_store(p, make_manifest())):
        with pytest.raises(StoreDamagedError, match=r"manifest\.json") as caught:
            ask(path)
        assert str(path) in str(caught.value)


def manifest_fields() -> dict:
    fields = json.loads(encode_manifest(make_manifest(), "zarr"))
    del fields["checksum"]
    return fields


@pytest.mark.parametrize(
    "changes",
    [
        {"views": "identity"},
        {"views": ["hflip"]},
        {"views": ["identity", "identity"]},
        {"feature_shape": []},
        {"feature_shape": [0]},
        {"feature_shape": ["8"]},
        {"feature_shape": [8.0]},
        {"dtype": "complex64"},
        {"dtype": 3},
        {"preprocessing": []},
        {"trained_on": "AQK"},
        {"encoder": None},
        {"format": "csv"},
        {"format": 1},
        {"schema_version": "1"},
        {"schema_version": True},
        {"schema_version": 0},
        {"extra": 1},
    ],
)
def test_a_manifest_with_wrong_values_is_refused(path, changes):
    create_store(path, make_manifest())
    (path / "manifest.json").write_bytes(encode_document({**manifest_fields(), **changes}))
    with pytest.raises(StoreDamagedError, match=r"manifest\.json"):
        open_store(path)


@pytest.mark.parametrize("name", sorted(manifest_fields()))
def test_a_manifest_with_a_missing_field_is_refused(path, name):
    create_store(path, make_manifest())
    fields = manifest_fields()
    del fields[name]
    (path / "manifest.json").write_bytes(encode_document(fields))
    with pytest.raises(StoreDamagedError, match=name):
        open_store(path)


def test_a_newer_version_is_refused_with_what_to_install(path):
    create_store(path, make_manifest())
    newer = {"schema_version": 2, "format": "zarr", "unknown": {}}
    (path / "manifest.json").write_bytes(encode_document(newer))
    with pytest.raises(StoreVersionError, match=r"version 2.*up to 1.*pip install --upgrade"):
        open_store(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"views": ("hflip",)},
        {"feature_shape": ()},
        {"dtype": "int8"},
        {"encoder": 3},
        {"trained_on": "AQK"},
        {"numerics": {"x": float("nan")}},
        {"preprocessing": {"size": object()}},
    ],
)
def test_an_impossible_manifest_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        make_manifest(**changes)


def test_difference_names_the_identity_fields():
    changed = make_manifest(encoder="x", views=("identity",), weights="y", numerics={})
    assert make_manifest().difference(changed) == ("encoder", "views")
    assert make_manifest().difference(make_manifest(trained_on=None)) == ()
    assert make_manifest().identity_sha256 == make_manifest(numerics={}).identity_sha256
    assert make_manifest().identity_sha256 != changed.identity_sha256
