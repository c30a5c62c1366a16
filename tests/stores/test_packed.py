import tempfile
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from stores import BagDamagedError, BagNotFoundError, create_store, pack_bags
from tests.stores.samples import SUFFIXES, make_bag, make_manifest

SIZES = {"AQK": 3, "BZF": 1, "CNM": 7}


@pytest.fixture(params=SUFFIXES)
def store(request, tmp_path):
    store = create_store(tmp_path / f"cohort{request.param}", make_manifest())
    for seed, (bag_id, num) in enumerate(SIZES.items()):
        store.write(make_bag(bag_id, num=num, seed=seed, label=None if num == 1 else bag_id))
    return store


def test_each_bag_lies_where_its_offsets_say(store):
    packed = pack_bags(store)
    assert packed.bag_ids == tuple(SIZES)
    assert packed.labels == ("AQK", None, "CNM")
    assert packed.offsets.tolist() == [0, 3, 4, 11]
    assert (packed.num_bags, packed.num_instances) == (3, 11)
    assert packed.features.dtype == np.float16
    for index, bag_id in enumerate(SIZES):
        bag, rows = store.read(bag_id), packed.bag(index)
        assert np.array_equal(packed.features[0, rows], bag.features)
        assert np.array_equal(packed.features[1:, rows], bag.views)
        assert np.array_equal(packed.colour[rows], bag.colour)


def test_bags_come_in_the_order_asked_for(store):
    packed = pack_bags(store, ["CNM", "AQK"])
    assert packed.bag_ids == ("CNM", "AQK")
    assert np.array_equal(packed.features[0, packed.bag(1)], store.read("AQK").features)
    assert pack_bags(store, []).num_instances == 0


def test_nothing_is_left_out_silently(store):
    with pytest.raises(BagNotFoundError, match="'XYZ'"):
        pack_bags(store, ["AQK", "XYZ"])
    with pytest.raises(ValueError, match="twice"):
        pack_bags(store, ["AQK", "AQK"])
    with pytest.raises(IndexError):
        pack_bags(store).bag(3)
    [bag_json] = (store.path / "bags" / "BZF").glob("bag.json")
    bag_json.unlink()
    with pytest.raises(BagDamagedError, match="'BZF'"):
        pack_bags(store)


def test_colour_is_there_only_if_every_bag_has_it(store):
    store.write(make_bag("imported", colour=None))
    assert pack_bags(store).colour is None
    assert pack_bags(store, list(SIZES)).colour.shape == (11, 6)


def test_a_mapped_array_holds_what_one_in_memory_does_and_leaves_no_file(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    mapped, resident = pack_bags(store, max_memory_bytes=0), pack_bags(store)
    assert isinstance(mapped.features, np.memmap)
    assert not isinstance(resident.features, np.memmap)
    np.testing.assert_array_equal(mapped.features, resident.features)
    assert not list((tmp_path / "scratch").iterdir())


def test_memory_that_caches_files_counts_as_free(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # a mapped array would fail
    memory = SimpleNamespace(free=0, available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert pack_bags(store).num_bags == len(SIZES)
    memory.available = 0
    with pytest.raises(FileNotFoundError):
        pack_bags(store)


@pytest.mark.parametrize("name", ["features", "views", "colour"])
def test_a_flipped_bit_is_never_packed(store, name):
    record, _ = store.read_files("CNM")
    entry = record.arrays[name]
    path = store.bag_path("CNM") / store.layout.array_file("CNM", name, entry.spec)
    data = bytearray(path.read_bytes())
    data[entry.offset + entry.nbytes // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BagDamagedError, match=r"'CNM'.*SHA-256"):
        pack_bags(store)


def test_packing_reads_to_where_the_numbers_are_wanted(store, monkeypatch):
    """Neither a library nor a second copy: what is slow is asked for damaged bags only."""
    expected = pack_bags(store).features

    def refuse(*arguments):
        raise AssertionError("the slow way")

    monkeypatch.setattr(type(store), "read_files", refuse)
    np.testing.assert_array_equal(pack_bags(store).features, expected)
