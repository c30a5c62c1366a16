"""Killed writers, failing disks and read-only ones."""

import shutil
import signal

import pytest

from stores import FeatureStore, files, open_store, store_info, verify_store
from tests.stores.contract.place import ContractPlace
from tests.stores.faults import FaultyOs, run_faults
from tests.stores.samples import bag_values, folder_bytes, make_bag

CALLS_AFTER_COMMIT = 3  # open, fsync, close of the folder of bags


class CrashContract(ContractPlace):
    def num_write_calls(self, store: FeatureStore, bag_id: str) -> int:
        faulty = FaultyOs(at=None, kind=None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", faulty)
            store.write(make_bag(bag_id))
        store.delete(bag_id)
        return len(faulty.calls)

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_writer_killed_at_any_call_leaves_a_whole_bag_or_none(self, store, replace):
        store.write(make_bag("before"))
        expected = self.folders_of(store, "before", "killed")
        if not replace:
            store.delete("killed")
        num_calls = self.num_write_calls(store, "other") + 4 * replace
        faults = []
        for at in sorted(
            {*range(0, num_calls, max(1, num_calls // 8)), *range(num_calls - 8, num_calls)}
        ):
            copy = self.folder(store).parent / f"{at}{self.suffix}"
            shutil.copytree(self.folder(store), copy)
            common = {"path": str(copy), "at": at, "bag": "killed", "replace": replace}
            faults.append({**common, "kind": "kill"})
        codes = run_faults(faults)
        assert set(codes) == {-signal.SIGKILL}
        absent = 0
        for fault in faults:
            after = open_store(fault["path"])
            assert set(after.bag_ids) <= {"before", "killed"}
            assert [record.error for record in verify_store(after)] == [None] * len(after)
            absent += "killed" not in after
            if "killed" not in after:
                after.write(make_bag("killed", seed=6))
            assert self.folders_of(after, "before", "killed", write=False) == expected
        assert absent > 0
        assert replace or absent < len(faults)

    def folders_of(self, store: FeatureStore, *bag_ids: str, write: bool = True):
        """The bytes of the folders of bags; ``killed`` is what the faulty writer writes."""
        if write and "killed" not in store:
            store.write(make_bag("killed", seed=6))
        return {bag_id: folder_bytes(self.bag_path(store, bag_id)) for bag_id in bag_ids}

    @pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
    def test_a_failing_disk_is_an_error_and_leaves_nothing(self, store, kind, monkeypatch):
        num_calls = self.num_write_calls(store, "AQK")
        for at in range(0, num_calls, max(1, num_calls // 12)):
            monkeypatch.setattr(files, "os", FaultyOs(at=at, kind=kind))
            with pytest.raises(OSError, match="injected") as caught:
                store.write(make_bag())
            monkeypatch.undo()
            assert any(
                "'AQK'" in note and str(store.path) in note for note in caught.value.__notes__
            )
            self.assert_nothing_is_staged(store)
            if at < num_calls - CALLS_AFTER_COMMIT:
                assert "AQK" not in store
            else:
                assert bag_values(store.read("AQK")) == bag_values(make_bag())
                store.delete("AQK")
        store.write(make_bag())
        assert bag_values(store.read("AQK")) == bag_values(make_bag())

    def test_strays_of_dead_writers_are_not_seen(self, store):
        store.write(make_bag())
        shutil.copytree(self.bag_path(store), self.folder(store) / ".tmp" / "dead" / "BZF")
        (self.folder(store) / "bags" / "notes.txt").write_text("not a bag")
        (self.folder(store) / "bags" / "foreign folder").mkdir()
        assert store.bag_ids == ("AQK",)

    def test_a_store_that_cannot_be_written_can_be_read(self, store, monkeypatch):
        store.write(make_bag())
        for call in ("mkdir", "rename", "link"):
            monkeypatch.setattr(f"os.{call}", refuse_write)
        with open_store(store.path) as reopened:
            assert bag_values(reopened.read("AQK")) == bag_values(make_bag())
            assert store_info(reopened)["num_bags"] == 1
            assert [record.error for record in verify_store(reopened)] == [None]
            with pytest.raises(OSError, match="read-only") as caught:
                reopened.write(make_bag("BZF"))
        assert "'BZF'" in caught.value.__notes__[0]


def refuse_write(*args: object, **kwargs: object) -> None:
    raise OSError(30, "read-only file system")
