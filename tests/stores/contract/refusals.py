"""Bags that break the schema or are of another store are refused."""

import shutil

import numpy as np
import pytest

from stores import (
    BagDamagedError,
    InvalidBagError,
    StoreMismatchError,
    create_store,
    open_or_create_store,
)
from tests.stores.contract.place import ContractPlace
from tests.stores.samples import make_bag, make_manifest


class RefusalContract(ContractPlace):
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", ["features", "views"])
    def test_a_feature_that_is_not_finite_is_named(self, store, name, value):
        bag = make_bag()
        getattr(bag, name)[..., 3, 2] = value
        with pytest.raises(InvalidBagError, match=r"'AQK'.*image_3\.tif.*not finite.*1 of 5"):
            store.write(bag)
        assert len(store) == 0

    @pytest.mark.parametrize("value", [65520.0, -1e30])
    def test_an_overflow_at_the_cast_is_named(self, store, value):
        features = np.zeros((5, 8), dtype=np.float32)
        features[4, 0] = value
        with pytest.raises(InvalidBagError, match=r"'AQK'.*image_4\.tif.*too large for float16"):
            store.write(make_bag(features=features))
        assert len(store) == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"instance_ids": ()}, "no instances"),
            ({"instance_ids": ("a", "b", "a", "c", "d")}, "twice: a"),
            ({"instance_ids": ("a", "", "c", "d", "e")}, "instance 1 has an empty id"),
            ({"instance_ids": ("a", "b\0", "c", "d", "e")}, "NUL"),
            ({"instance_ids": ("a", "\ud800", "c", "d", "e")}, "UTF-8"),
            ({"instance_ids": ("a", "b", "c", "d")}, "shape"),
            ({"features": np.zeros((4, 8), np.float16)}, "shape"),
            ({"colour": np.zeros((5, 3), np.float32)}, "colour"),
            ({"colour": np.full((5, 6), np.nan, np.float32)}, "colour of instance .* not finite"),
            ({"coords": np.zeros((5, 3), np.float32)}, "coords"),
            ({"coords": np.full((5, 2), np.inf, np.float32)}, "coords of instance .* infinite"),
            ({"smear": ("a",)}, "smear has 1"),
            ({"instance_labels": ("a", "b", "c", "d", 1)}, "instance_labels"),
            ({"label": 3}, "label is 3"),
            ({"attributes": {"age": float("nan")}}, r"attributes\.age is nan"),
            ({"attributes": {"age": np.int64(3)}}, "int64"),
            ({"attributes": {1: "a"}}, "key 1"),
            ({"fingerprint": None}, "fingerprint"),
            ({"coords": np.full((5, 2), "x")}, "coords"),
        ],
    )
    def test_a_bag_that_breaks_the_schema_is_refused(self, store, changes, message):
        with pytest.raises(InvalidBagError, match=f"'AQK'.*{message}"):
            store.write(make_bag(**changes))
        assert len(store) == 0
        self.assert_nothing_is_staged(store)

    def test_coordinates_may_be_unknown_per_instance(self, store):
        coords = np.array([[1, 2], [np.nan, np.nan], [3, 4], [5, 6], [7, 8]], dtype=np.float32)
        store.write(make_bag(coords=coords))
        assert np.array_equal(store.read("AQK").coords, coords, equal_nan=True)

    @pytest.mark.parametrize(
        "changes",
        [
            {"features": np.zeros((5, 9), np.float16)},
            {"features": np.zeros((5, 8, 1), np.float16)},
            {"features": np.zeros((5, 8), np.int32)},
            {"views": None},
            {"views": np.zeros((2, 5, 8), np.float16)},
        ],
    )
    def test_a_bag_of_another_shape_dtype_or_view_list_is_refused(self, store, changes):
        with pytest.raises(StoreMismatchError, match=r"'AQK'.*store"):
            store.write(make_bag(**changes))
        assert len(store) == 0

    def test_features_with_less_precision_than_the_store_are_refused(self, path):
        store = create_store(path, make_manifest(dtype="float32"))
        with pytest.raises(StoreMismatchError, match=r"float16.*float32"):
            store.write(make_bag())

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            ({"encoder": "resnet34"}, ("encoder", "'resnet18'", "'resnet34'")),
            ({"architecture": "timm/x"}, ("architecture", "'timm/resnet18'", "'timm/x'")),
            ({"weights_sha256": "00"}, ("weights_sha256", "5f5f", "'00'")),
            ({"preprocessing": {"image_size_px": 96}}, ("image_size_px", "144", "96", "mean")),
            ({"views": ("identity",)}, ("views", "hflip", "('identity',)")),
            ({"feature_shape": (9,)}, ("feature_shape", "(8,)", "(9,)")),
            ({"dtype": "float32"}, ("dtype", "'float16'", "'float32'")),
        ],
    )
    def test_a_store_made_in_another_way_is_refused_showing_both_values(
        self, store, changes, shown
    ):
        with pytest.raises(StoreMismatchError) as caught:
            open_or_create_store(store.path, make_manifest(**changes))
        for text in (*shown, str(store.path)):
            assert text in str(caught.value)

    def test_numerics_and_the_name_of_the_weights_are_not_compared(self, store):
        changed = make_manifest(numerics={"compute_dtype": "bfloat16"}, weights="elsewhere.bin")
        assert open_or_create_store(store.path, changed).manifest == store.manifest

    def test_a_bag_of_another_store_is_refused(self, store, tmp_path):
        manifest = make_manifest(weights_sha256="00")
        other = create_store(self.place(tmp_path, "other"), manifest)
        other.write(make_bag())
        shutil.copytree(self.bag_path(other), self.bag_path(store))
        for ask in (store.read, store.record):
            with pytest.raises(BagDamagedError, match=r"'AQK'.*another store"):
                ask("AQK")
