import h5py
import numpy as np

from tests.stores.contract import StoreContract
from tests.stores.samples import make_bag


class TestHdf5Store(StoreContract):
    suffix = ".h5store"

    def test_plain_h5py_reads_the_arrays(self, store):
        bag = make_bag("a/b", instance_ids=("ä", "b", "c", "d", "e"))
        store.write(bag)
        with h5py.File(store.path / "bags" / "a%2Fb" / "a%2Fb.h5") as file:
            assert np.array_equal(file["features"][...], bag.features)
            assert np.array_equal(file["views"][...], bag.views)
            assert tuple(file["instance_ids"].asstr()[...]) == bag.instance_ids
            assert file["features"].fletcher32
            assert file["features"].chunks == bag.features.shape

    def test_a_bag_is_two_files(self, store):
        store.write(make_bag())
        assert sorted(p.name for p in self.bag_path(store).iterdir()) == ["AQK.h5", "bag.json"]
