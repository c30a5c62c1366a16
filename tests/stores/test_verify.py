import pytest

from stores import VerifyRecord, create_store, verify_store
from stores.bag_folder import read_record
from stores.commit_record import CommitRecord, encode_record
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


def test_a_bag_deleted_meanwhile_is_no_damage(store):
    checks = verify_store(store)
    assert next(checks).bag_id == "a"
    store.delete("b")
    assert [record.bag_id for record in checks] == ["c"]


@pytest.mark.parametrize("field", ["sha256", "crc32c"])
def test_a_record_that_disagrees_with_the_arrays_is_found(store, field):
    folder = store.path / "bags" / "b"
    record, _ = read_record(folder, store.manifest)
    lie = {"sha256": "00" * 32, "crc32c": 0}[field]
    arrays = {**record.arrays, "colour": _replaced(record.arrays["colour"], **{field: lie})}
    changed: CommitRecord = _replaced(record, arrays=arrays)
    (folder / "bag.json").write_bytes(encode_record(changed))
    assert [r.bag_id for r in verify_store(store) if r.error] == ["b"]


def test_a_library_that_reads_other_values_is_reported(store, monkeypatch):
    real = store.library_arrays

    def library_arrays(folder_name, contents):
        arrays = real(folder_name, contents)
        return arrays | ({"colour": arrays["colour"] + 1} if folder_name == "b" else {})

    monkeypatch.setattr(store, "library_arrays", library_arrays)
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


def _replaced(value, **changes):
    return type(value)(**{name: getattr(value, name) for name in value.__slots__} | changes)
