"""One commit per bag: the first wins, a replacement leaves the new bag only."""

import threading

import numpy as np
import pytest

from stores import (
    BagExistsError,
    BagNotFoundError,
    InvalidBagError,
    create_store,
    files,
    open_store,
)
from tests.stores.contract.place import ContractPlace
from tests.stores.samples import bag_values, folder_bytes, make_bag, make_manifest


class CommitContract(ContractPlace):
    def test_the_first_commit_wins(self, store):
        store.write(make_bag(seed=1))
        with pytest.raises(BagExistsError, match="'AQK'"):
            open_store(store.path).write(make_bag(seed=2))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))
        self.assert_nothing_is_staged(store)

    def test_the_first_commit_wins_where_both_were_under_way(self, store, monkeypatch):
        def meanwhile(source, target):
            monkeypatch.undo()
            open_store(store.path).write(make_bag(seed=1))
            files.move_dir(source, target)

        monkeypatch.setattr("stores.bag_folder.files.move_dir", meanwhile)
        with pytest.raises(BagExistsError, match="'AQK'"):
            store.write(make_bag(seed=2))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))
        self.assert_nothing_is_staged(store)

    def test_threads_writing_one_bag_commit_it_once(self, store):
        outcomes = []

        def write(seed: int) -> None:
            try:
                store.write(make_bag(seed=seed))
                outcomes.append(seed)
            except BagExistsError:
                outcomes.append(None)

        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [winner] = [seed for seed in outcomes if seed is not None]
        assert len(outcomes) == 4
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=winner))

    def test_the_same_bag_is_the_same_bytes(self, store, tmp_path):
        other = create_store(self.place(tmp_path, "other"), make_manifest())
        other.write(make_bag("BZF"))
        for each in (store, other):
            each.write(make_bag())
        assert folder_bytes(self.bag_path(store)) == folder_bytes(self.bag_path(other))
        assert (self.folder(store) / "manifest.json").read_bytes() == (
            self.folder(other) / "manifest.json"
        ).read_bytes()

    def test_replace_leaves_the_new_bag_only(self, store):
        store.write(make_bag(seed=1))
        store.replace(make_bag(seed=2))
        store.replace(make_bag("new", seed=3))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=2))
        assert store.bag_ids == ("AQK", "new")
        self.assert_nothing_is_staged(store)

    @pytest.mark.parametrize(
        "changes",
        [{"features": np.full((5, 8), np.nan, np.float16)}, {"attributes": {"note": "x" * 2**16}}],
        ids=["not finite", "record too long"],
    )
    def test_a_refused_replacement_keeps_the_old_bag(self, store, changes, monkeypatch):
        monkeypatch.setattr("stores.documents.MAX_DOCUMENT_BYTES", 2**16)
        store.write(make_bag(seed=1))
        with pytest.raises(InvalidBagError):
            store.replace(make_bag(**changes))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))

    def test_a_deleted_bag_is_gone_and_can_be_written_again(self, store):
        store.write(make_bag())
        (self.bag_path(store) / "bag.json").write_bytes(b"damaged")
        store.delete("AQK")
        assert len(store) == 0
        store.write(make_bag())
        assert bag_values(store.read("AQK")) == bag_values(make_bag())

    def test_a_bag_replaced_while_it_is_read_is_read_whole(self, store, monkeypatch):
        store.write(make_bag(seed=1))
        real = files.read_bytes

        def read_bytes(path, *, max_bytes):
            if path.name != "bag.json":
                monkeypatch.undo()
                open_store(store.path).replace(make_bag(seed=2))
            return real(path, max_bytes=max_bytes)

        monkeypatch.setattr("stores.bag_folder.files.read_bytes", read_bytes)
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=2))

    @pytest.mark.parametrize("is_record", [False, True])
    def test_a_bag_deleted_while_it_is_read_is_not_found(self, store, is_record, monkeypatch):
        store.write(make_bag(seed=1))
        real = files.read_bytes

        def read_bytes(path, *, max_bytes):
            if (path.name == "bag.json") == is_record:
                monkeypatch.undo()
                open_store(store.path).delete("AQK")
            return real(path, max_bytes=max_bytes)

        monkeypatch.setattr("stores.bag_folder.files.read_bytes", read_bytes)
        with pytest.raises(BagNotFoundError):
            store.read("AQK")
