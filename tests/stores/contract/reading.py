"""What is written is read, bit for bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stores import create_store, open_store, store_info, verify_store
from tests.stores.contract.place import MODEST, ContractPlace
from tests.stores.samples import bag_values, make_bag, make_manifest


class ReadingContract(ContractPlace):
    def test_a_reopened_store_returns_what_was_written(self, store):
        bag = make_bag()
        store.write(bag)
        with open_store(store.path) as reopened:
            assert bag_values(reopened.read("AQK")) == bag_values(bag)
            assert reopened.manifest == store.manifest
            assert reopened.bag_ids == ("AQK",)

    def test_a_bag_with_the_required_arrays_only_is_enough(self, path):
        manifest = make_manifest(views=("identity",), trained_on=None)
        store = create_store(path, manifest)
        bag = make_bag(
            manifest=manifest,
            colour=None,
            instance_labels=None,
            smear=None,
            coords=None,
            label=None,
            attributes={},
            quarantined=(),
            fingerprint="",
        )
        store.write(bag)
        assert bag_values(store.read("AQK")) == bag_values(bag)

    def test_maps_and_float32_come_back_as_they_were(self, path):
        manifest = make_manifest(feature_shape=(3, 2, 2), dtype="float32")
        store = create_store(path, manifest)
        bag = make_bag(manifest=manifest)
        store.write(bag)
        assert bag_values(store.read("AQK")) == bag_values(bag)

    def test_read_arrays_belong_to_the_caller(self, store):
        store.write(make_bag())
        bag = store.read("AQK")
        bag.features[:] = 0
        bag.colour[:] = 0
        assert store.read("AQK").features.any()

    def test_wider_floats_are_cast_to_the_dtype_of_the_store(self, store):
        features = np.full((5, 8), 1 / 3, dtype=np.float64)
        store.write(make_bag(features=features))
        assert np.array_equal(store.read("AQK").features, features.astype(np.float16))

    def test_the_record_needs_bag_json_only(self, store):
        bag = make_bag()
        store.write(bag)
        for file in self.bag_path(store).rglob("*"):
            if file.is_file() and file.name != "bag.json":
                file.unlink()
        record = store.record("AQK")
        assert record.num_instances == 5
        assert (record.label, record.fingerprint) == ("APL", "0123")
        assert record.attributes == bag.attributes
        assert record.quarantined == bag.quarantined
        assert record.arrays["views"].shape == (1, 5, 8)
        assert store_info(store)["num_quarantined"] == 1

    @MODEST
    @given(data=st.data())
    def test_any_valid_arrays_come_back_bit_for_bit(self, tmp_path_factory, data):
        shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
        dtype = data.draw(st.sampled_from(("float16", "float32", "float64")))
        num = data.draw(st.integers(1, 6))
        num_views = data.draw(st.integers(1, 3))
        finite = {"allow_nan": False, "allow_infinity": False, "width": int(dtype[5:])}

        def draw_features(*leading: int):
            full = (*leading, num, *shape)
            return data.draw(hnp.arrays(dtype, full, elements=st.floats(**finite)))

        text = st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
        )
        manifest = make_manifest(
            views=("identity", "a", "b")[:num_views], feature_shape=shape, dtype=dtype
        )
        store = create_store(self.place(tmp_path_factory.mktemp("any"), "s"), manifest)
        ids = data.draw(st.lists(text.filter(bool), min_size=num, max_size=num, unique=True))
        labels = data.draw(st.lists(text, min_size=num, max_size=num))
        bag = make_bag(
            data.draw(text.filter(bool)),
            manifest=manifest,
            num=num,
            features=draw_features(),
            views=draw_features(num_views - 1) if num_views > 1 else None,
            instance_ids=tuple(ids),
            instance_labels=tuple(labels),
        )
        store.write(bag)
        assert bag_values(store.read(bag.bag_id)) == bag_values(bag)
        assert [record.error for record in verify_store(store)] == [None]
