import numpy as np
import pytest

from stores import BagDiff, copy_store, create_store, diff_manifests, diff_stores, open_store
from tests.stores.samples import make_bag, make_manifest


@pytest.fixture
def stores(tmp_path):
    first = create_store(tmp_path / "first.zarr", make_manifest())
    for seed, bag_id in enumerate(("a", "b", "c")):
        first.write(make_bag(bag_id, seed=seed))
    list(copy_store(first, tmp_path / "second.h5store"))
    return first, open_store(tmp_path / "second.h5store")


def different(stores):
    return [bag for bag in diff_stores(*stores) if not bag.is_equal]


def test_equal_stores_of_two_formats_do_not_differ(stores):
    assert different(stores) == []
    assert [bag.bag_id for bag in diff_stores(*stores)] == ["a", "b", "c"]
    assert diff_manifests(stores[0].manifest, stores[1].manifest) == {}


def test_bags_that_only_one_has_are_named(stores):
    stores[0].delete("a")
    stores[1].delete("c")
    assert different(stores) == [
        BagDiff(bag_id="a", where="second", differences=()),
        BagDiff(bag_id="c", where="first", differences=()),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": "NPM1"}, "label: 'APL', 'NPM1'"),
        ({"attributes": {"age": 3}}, "attributes: {'age': 61"),
        ({"quarantined": ()}, "quarantined: (QuarantinedFile("),
        ({"fingerprint": "4567"}, "fingerprint: '0123', '4567'"),
        ({"coords": None}, "coords: float32 (5, 2), absent"),
        ({"smear": ("smear", "x", "y", "z", "smear")}, "smear: 3 of 5, the first 'smear', 'x'"),
    ],
)
def test_what_differs_is_shown_with_both_values(stores, changes, expected):
    stores[1].replace(make_bag("b", seed=1, **changes))
    [bag] = different(stores)
    assert bag.bag_id == "b"
    [text] = bag.differences
    assert text.startswith(expected)


def test_differing_numbers_are_counted_and_measured(stores):
    bag = make_bag("b", seed=1)
    bag.features[2, 3] += np.float16(0.5)
    bag.views[0, 1, 0] += np.float16(2)
    stores[1].replace(bag)
    [found] = different(stores)
    assert found.differences[0].startswith("features: 1 of 40 values, by at most 0.5")
    assert found.differences[1].startswith("views: 1 of 40 values, by at most 2")


def test_equal_numbers_in_other_bits_differ(stores):
    zeros = np.zeros((5, 2), np.float32)
    stores[0].replace(make_bag("b", seed=1, coords=zeros))
    stores[1].replace(make_bag("b", seed=1, coords=-zeros))
    [found] = different(stores)
    assert found.differences == (
        "coords: equal values in other bits (the sign of zero, or a NaN's)",
    )


def test_an_unknown_coordinate_equals_itself_and_no_number(stores):
    known, unknown = np.ones((5, 2), np.float32), np.full((5, 2), np.nan, np.float32)
    for store in stores:
        store.replace(make_bag("b", seed=1, coords=unknown))
    assert different(stores) == []
    stores[1].replace(make_bag("b", seed=1, coords=known))
    assert different(stores)[0].differences == ("coords: 10 of 10 values, by at most nan",)


def test_bags_of_other_sizes_and_other_features_differ(stores, tmp_path):
    stores[1].replace(make_bag("b", seed=1, num=4))
    assert "features: float16 (5, 8), float16 (4, 8)" in different(stores)[0].differences
    other = create_store(tmp_path / "other.zarr", make_manifest(dtype="float32"))
    other.write(make_bag("a", manifest=other.manifest))
    found = next(iter(diff_stores(stores[0], other)))
    assert "features: float16 (5, 8), float32 (5, 8)" in found.differences


def test_a_damaged_bag_is_a_difference_that_says_so(stores):
    (stores[1].path / "bags" / "b" / "bag.json").write_bytes(b"")
    [found] = different(stores)
    assert "damaged" in found.differences[0]
    assert str(stores[1].path) in found.differences[0]


def test_manifests_are_compared_field_by_field():
    changed = make_manifest(
        preprocessing={"image_size_px": 96}, weights="other", trained_on=None, dtype="float32"
    )
    found = diff_manifests(make_manifest(), changed)
    assert found["preprocessing.image_size_px"] == (144, 96)
    assert found["dtype"] == ("float16", "float32")
    assert found["weights"] == ("weights.safetensors", "other")
    assert found["trained_on"] == (("A", "B"), None)
    assert "numerics" not in found
