"""Lost power at any moment: what was reported as written is there, nothing else is half there."""

import os
import shutil

import numpy as np
import pytest

from stores import NotAStoreError, create_store, files, open_store, verify_store
from tests.stores.power_loss import POLICIES, Disk, RecordingOs
from tests.stores.samples import SUFFIXES, bag_values, make_bag, make_manifest

pytestmark = pytest.mark.usefixtures("images")

ACTIONS = ("write", "replace", "delete")


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk" / f"cohort{request.param}"


def record_calls(action):
    """Run an action; return the journal of its calls."""
    recorder = RecordingOs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", recorder)
        action()
    return recorder.journal


def states_after(before, journal, tmp_path, *, policies, step, rng):
    """Yield (number of calls that were made, folder as it may be found) per moment and policy."""
    moments = {*range(0, len(journal), step), *range(len(journal) - 6, len(journal) + 1)}
    disk = Disk(before)
    for num_calls in range(len(journal) + 1):
        if num_calls > 0:
            disk.apply(*relocated(journal[num_calls - 1], before))
        for policy in policies if num_calls in moments else ():
            target = tmp_path / f"{num_calls}-{policy}-{rng.integers(10**9)}"
            disk.materialise(target, policy, rng)
            yield num_calls, target
            shutil.rmtree(target)


def relocated(call, before):
    """Point the paths of a recorded call at the copy the model was loaded from."""
    name, args, result = call
    root = before.parent / "disk"
    return (
        name,
        tuple(
            before / arg.relative_to(root) if isinstance(arg, os.PathLike) else arg for arg in args
        ),
        result,
    )


def snapshot(path, tmp_path):
    before = tmp_path / "before"
    shutil.copytree(path.parent, before)
    return before


def check_moments(path, tmp_path, action, *, policies, step, seed=0):
    """Lose power at many moments of an action on the second bag; return the number of states."""
    store = create_store(path, make_manifest())
    store.write(make_bag("kept", seed=1))
    if action != "write":
        store.write(make_bag("AQK", seed=2))
    before = snapshot(path, tmp_path)
    new = make_bag("AQK", seed=3)
    argument = "AQK" if action == "delete" else new
    journal = record_calls(lambda: getattr(store, action)(argument))
    rng = np.random.default_rng(seed)
    num = 0
    for num_calls, found in states_after(
        before, journal, tmp_path, policies=policies, step=step, rng=rng
    ):
        after = open_store(found / path.name)
        assert bag_values(after.read("kept")) == bag_values(make_bag("kept", seed=1))
        assert set(after.bag_ids) <= {"kept", "AQK"}
        assert [record.error for record in verify_store(after)] == [None] * len(after)
        is_done = num_calls == len(journal)
        if "AQK" in after:
            values = bag_values(after.read("AQK"))
            olds = [] if action == "write" or is_done else [bag_values(make_bag("AQK", seed=2))]
            assert values in [*olds, bag_values(new)]
            assert not (action == "delete" and is_done)
        else:
            assert action == "delete" or not is_done
            after.write(new)
            assert bag_values(after.read("AQK")) == bag_values(new)
        num += 1
    return num


@pytest.mark.parametrize("action", ACTIONS)
def test_lost_power_leaves_whole_bags(path, tmp_path, action):
    assert check_moments(path, tmp_path, action, policies=POLICIES, step=25) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_lost_power_at_every_call_leaves_whole_bags(path, tmp_path, action):
    policies = (*POLICIES[:-1], *["random"] * 5)
    check_moments(path, tmp_path, action, policies=policies, step=1)


def test_lost_power_while_a_store_is_created_leaves_a_store_or_none(path, tmp_path):
    before = snapshot(path, tmp_path)
    journal = record_calls(lambda: create_store(path, make_manifest()))
    rng = np.random.default_rng(0)
    outcomes = set()
    policies = (*POLICIES, *["random"] * 7)
    for num_calls, found in states_after(
        before, journal, tmp_path, policies=policies, step=10, rng=rng
    ):
        try:
            store = open_store(found / path.name)
        except NotAStoreError:
            assert num_calls < len(journal)
            outcomes.add("none")
            store = create_store(found / path.name, make_manifest())
        else:
            outcomes.add("store")
        assert store.manifest == make_manifest()
        assert store.bag_ids == ()
        assert store.frame_error() is None
    assert outcomes == {"none", "store"}
