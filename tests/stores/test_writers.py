"""Many writers at once, killed again and again."""

import itertools
from collections import Counter

import pytest

from stores import create_store, open_store, repair_store, verify_store
from tests.stores.samples import bag_values, make_bag, make_manifest
from tests.stores.writers import own_ids, run_writers, seed_of, shared_ids


def check_writers(path, capsys, **settings):
    """Let writers fill a store; nothing may be lost, doubled or damaged."""
    create_store(path, make_manifest())
    kills = run_writers(path, **settings)
    store = open_store(path)
    own = [own_ids(w, settings["num_bags"]) for w in range(settings["num_writers"])]
    expected = {*itertools.chain(*own), *shared_ids(settings["num_shared"])}
    assert set(store.bag_ids) == expected
    assert len(store) == len(expected)
    for bag_id in store.bag_ids:
        expected_bag = make_bag(bag_id, num=2, seed=seed_of(bag_id))
        assert bag_values(store.read(bag_id)) == bag_values(expected_bag)
    assert [record.error for record in verify_store(store)] == [None] * len(expected)
    notes = path.parent.glob(f"{path.name}.written-*")
    reported = Counter(bag_id for file in notes for bag_id in file.read_text().split())
    assert reported.keys() <= expected
    assert set(reported.values()) == {1}  # no commit was reported twice
    assert sum(kills) >= settings["num_writers"]
    num_strays = len(list((path / ".tmp").iterdir()))
    assert {r.action for r in repair_store(store)} <= {"intact", "removed"}
    assert not list((path / ".tmp").iterdir())
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{path.suffix}: {settings['num_writers']} writers, {sum(kills)} kills {kills}, "
            f"{len(store)} bags, {reported.total()} reported, {num_strays} strays removed"
        )


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "calls_to_live"), [(".zarr", 4000), (".h5store", 500)])
def test_eight_writers_of_200_bags_killed_at_random_lose_and_double_nothing(
    tmp_path, suffix, calls_to_live, capsys
):
    settings = {"num_writers": 8, "num_bags": 200, "num_shared": 50}
    check_writers(tmp_path / f"many{suffix}", capsys, calls_to_live=calls_to_live, **settings)


def test_writers_killed_at_random_lose_and_double_nothing(tmp_path, capsys):
    settings = {"num_writers": 3, "num_bags": 6, "num_shared": 6, "calls_to_live": 60}
    check_writers(tmp_path / "few.h5store", capsys, **settings)
