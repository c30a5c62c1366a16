import threading

import pytest

from stores import VerifyRecord, create_store, verify_store
from stores.bag_folder import read_record
from stores.commit_record import encode_record
from tests.stores.crafting import changed
from tests.stores.samples import SUFFIXES, make_bag, make_manifest


@pytest.fixture(params=SUFFIXES)
def store(request, tmp_path):
    store = create_store(tmp_path / f"cohort{request.param}", make_manifest())
    for bag_id in ("a", "b", "c"):
        store.write(make_bag(bag_id))
    return store


def test_an_intact_store_has_no_errors(store):
    assert list(verify_store(store)) == [VerifyRecord(bag_id=i, error=None) for i in "abc"]


def test_the_damaged_bag_is_named_and_the_rest_checked(store):
    (store.path / "bags" / "b" / "bag.json").write_bytes(b"")
    records = {record.bag_id: record.error for record in verify_store(store)}
    assert records.keys() == {"a", "b", "c"}
    assert [bag_id for bag_id, error in records.items() if error] == ["b"]


def test_threads_find_the_same_in_the_same_order(store):
    for number in range(20):
        store.write(make_bag(f"n{number}", seed=number))
    (store.path / "bags" / "n7" / "bag.json").write_bytes(b"")
    one_by_one = list(verify_store(store, num_threads=1))
    assert [record.bag_id for record in one_by_one] == list(store.bag_ids)
    assert [record.bag_id for record in one_by_one if record.error] == ["n7"]
    for num_threads in (2, 5, None):
        assert list(verify_store(store, num_threads=num_threads)) == one_by_one


def test_bags_are_checked_at_once_but_not_far_ahead_of_the_caller(store, monkeypatch):
    for number in range(20):
        store.write(make_bag(f"n{number}"))
    meeting, started = threading.Barrier(3), []
    real = store.read_files

    def read_files(bag_id):
        started.append(bag_id)
        if len(started) <= 3:
            meeting.wait(timeout=10)  # passed only if three are here at once
        return real(bag_id)

    monkeypatch.setattr(store, "read_files", read_files)
    checks = verify_store(store, num_threads=3)
    assert next(checks) == VerifyRecord(bag_id="a", error=None)
    checks.close()
    assert 3 <= len(started) <= 4


def test_a_number_of_threads_below_one_is_refused(store):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        next(verify_store(store, num_threads=0))


def test_a_bag_deleted_meanwhile_is_no_damage(store):
    checks = verify_store(store, num_threads=1)
    assert next(checks).bag_id == "a"
    store.delete("b")
    assert [record.bag_id for record in checks] == ["c"]


@pytest.mark.parametrize("field", ["sha256", "crc32c"])
def test_a_record_that_disagrees_with_the_arrays_is_found(store, field):
    folder = store.path / "bags" / "b"
    record, _ = read_record(folder, store.manifest)
    lie = {"sha256": "00" * 32, "crc32c": 0}[field]
    arrays = {**record.arrays, "colour": changed(record.arrays["colour"], **{field: lie})}
    (folder / "bag.json").write_bytes(encode_record(changed(record, arrays=arrays)))
    assert [r.bag_id for r in verify_store(store) if r.error] == ["b"]


def test_a_library_that_reads_other_values_is_reported(store, monkeypatch):
    real = store.layout.library_arrays

    def library_arrays(record, contents):
        arrays = real(record, contents)
        return arrays | ({"colour": arrays["colour"] + 1} if record.bag.bag_id == "b" else {})

    monkeypatch.setattr(store.layout, "library_arrays", library_arrays)
    errors = {record.bag_id: record.error for record in verify_store(store)}
    assert "library reads other values" in errors.pop("b")
    assert errors == {"a": None, "c": None}


def test_group_documents_only_zarr_needs_are_checked(tmp_path):
    store = create_store(tmp_path / "cohort.zarr", make_manifest())
    store.write(make_bag())
    for document in (store.path / "zarr.json", store.path / "bags" / "zarr.json"):
        intact = document.read_bytes()
        document.write_bytes(intact.replace(b"group", b"groop"))
        frame, bag = verify_store(store)
        assert frame.bag_id == ""
        assert "zarr" in frame.error
        assert bag == VerifyRecord(bag_id="AQK", error=None)
        document.write_bytes(intact)
    assert len(list(verify_store(store))) == 1
