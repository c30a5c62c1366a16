import tracemalloc

import numpy as np
import zarr

from stores import create_store
from tests.stores.contract import StoreContract
from tests.stores.samples import make_bag, make_manifest


class TestZarrStore(StoreContract):
    suffix = ".zarr"

    def test_plain_zarr_reads_the_arrays(self, store):
        bag = make_bag("a/b")
        store.write(bag)
        group = zarr.open_group(store.path, mode="r")
        assert np.array_equal(group["bags/a%2Fb/features"][...], bag.features)
        assert np.array_equal(group["bags/a%2Fb/views"][...], bag.views)
        assert tuple(group["bags/a%2Fb/instance_ids"][...]) == bag.instance_ids
        assert group["bags/a%2Fb/features"].chunks == bag.features.shape

    def test_a_chunk_of_zeros_is_written(self, path):
        store = create_store(path, make_manifest(views=("identity",)))
        features = np.zeros((5, 8), np.float16)
        store.write(make_bag(features=features, views=None))
        assert (self.bag_path(store) / "features" / "c" / "0" / "0").stat().st_size == 80 + 4
        assert not store.read("AQK").features.any()

    def test_writing_a_large_bag_takes_its_memory_once_more(self, path):
        manifest = make_manifest(feature_shape=(512,))
        bag = make_bag(manifest=manifest, num=8_000)
        store = create_store(path, manifest)
        store.write(make_bag("before", manifest=manifest))
        tracemalloc.start()
        try:
            store.write(bag)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1.5 * (bag.features.nbytes + bag.views.nbytes)
