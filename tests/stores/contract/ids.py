"""Ids are whatever they are, and stay inside."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stores import BagNotFoundError, InvalidBagError, create_store, open_store
from stores.open import SKELETON
from tests.stores.contract.place import MODEST, ContractPlace
from tests.stores.samples import bag_values, make_bag, make_manifest

ODD_IDS = ("..", ".", "/", "a/b", "/etc/passwd", "../../x", ".hidden", "__x", "zarr.json", "A", "a")
MORE_IDS = ("\0", "ä", "急性", "a b", "a%2Fb", "~", "a\\b", "C:", "x" * 255, "x" * 254 + "y", "%")
HOSTILE_IDS = st.one_of(
    st.text(st.sampled_from("/\\.~%:\0 aAäé急"), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
)


class IdContract(ContractPlace):
    @pytest.mark.parametrize("bag_id", ODD_IDS + MORE_IDS)
    def test_an_odd_id_stays_inside_its_folder_and_comes_back(self, store, bag_id):
        before = {entry.name for entry in self.folder(store).parent.iterdir()}
        store.write(make_bag(bag_id))
        assert store.read(bag_id).bag_id == bag_id
        assert store.bag_ids == (bag_id,)
        assert {entry.name for entry in self.folder(store).parent.iterdir()} == before
        [folder] = [entry for entry in (self.folder(store) / "bags").iterdir() if entry.is_dir()]
        assert (folder / "bag.json").is_file()
        assert len(folder.name) <= 120

    @MODEST
    @given(bag_ids=st.lists(HOSTILE_IDS, min_size=1, max_size=4, unique=True))
    @example(bag_ids=["A", "a"])
    @example(bag_ids=["..", "../..", "/", "a/../../b"])
    @example(bag_ids=["x" * 255, "é" * 255, "x" * 254 + "/"])
    def test_any_ids_stay_inside_and_come_back(self, tmp_path_factory, bag_ids):
        folder = tmp_path_factory.mktemp("ids")
        store = create_store(self.place(folder, "s"), make_manifest())
        for seed, bag_id in enumerate(bag_ids):
            store.write(make_bag(bag_id, seed=seed))
        assert [entry.name for entry in folder.iterdir()] == [store.path.name]
        assert {p.name for p in self.folder(store).iterdir()} <= SKELETON
        folders = [entry for entry in (self.folder(store) / "bags").iterdir() if entry.is_dir()]
        assert len(folders) == len(bag_ids)
        assert all((entry / "bag.json").is_file() for entry in folders)
        reopened = open_store(store.path)
        assert reopened.bag_ids == tuple(sorted(bag_ids))
        for seed, bag_id in enumerate(bag_ids):
            assert bag_values(reopened.read(bag_id)) == bag_values(make_bag(bag_id, seed=seed))

    def test_odd_ids_do_not_meet(self, store):
        ids = ODD_IDS + MORE_IDS
        for seed, bag_id in enumerate(ids):
            store.write(make_bag(bag_id, seed=seed))
        assert store.bag_ids == tuple(sorted(ids))
        for seed, bag_id in enumerate(ids):
            assert bag_values(store.read(bag_id)) == bag_values(make_bag(bag_id, seed=seed))

    @pytest.mark.parametrize("bag_id", ["", "\ud800", "x" * 5000, 7])
    def test_an_impossible_id_is_refused(self, store, bag_id):
        with pytest.raises(InvalidBagError, match=r"id"):
            store.write(make_bag(bag_id))
        assert bag_id not in store
        assert len(store) == 0

    def test_an_unknown_id_is_not_found(self, store):
        for ask in (store.read, store.record, store.delete):
            with pytest.raises(BagNotFoundError, match="'AQK'"):
                ask("AQK")
        assert "AQK" not in store
