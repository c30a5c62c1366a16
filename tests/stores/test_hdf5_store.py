import h5py
import numpy as np
import pytest

from stores import hdf5_layout, verify_store
from tests.stores.contract import StoreContract
from tests.stores.samples import bag_values, make_bag


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

    @pytest.mark.parametrize(
        ("setting", "value"), [("LARGE_BYTES", 0), ("HAS_SOUND_IMAGES", False)]
    )
    def test_a_bag_drawn_without_an_image_is_read_by_h5py_and_checked_as_any_other(
        self, store, monkeypatch, setting, value
    ):
        monkeypatch.setattr(hdf5_layout, setting, value)
        monkeypatch.setattr(hdf5_layout, "_draw", None)  # would fail
        ids = ("a", "b", "c", "d", "e")  # 5 bytes: an odd number
        bag = make_bag(instance_ids=ids, colour=np.zeros((5, 6), np.float32))
        store.write(bag)
        assert bag_values(store.read("AQK")) == bag_values(bag)
        assert [record.error for record in verify_store(store)] == [None]
        path = self.bag_path(store) / "AQK.h5"
        sound = path.read_bytes()
        for name, array in store.read_files("AQK")[0].arrays.items():
            for place in (array.offset, array.offset + array.nbytes):  # the checksum is behind
                damaged = bytearray(sound)
                damaged[place] ^= 1
                path.write_bytes(damaged)
                with h5py.File(path) as file, pytest.raises(OSError, match="filter"):
                    file[name][...]
