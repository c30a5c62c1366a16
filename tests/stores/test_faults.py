"""Every fault at every call of the write path, five times each."""

import os
import shutil
import signal
from collections import Counter

import pytest

from stores import create_store, files, open_store, verify_store
from tests.stores.faults import COMMITTED, FAILED, FaultyOs, run_faults
from tests.stores.samples import SUFFIXES, folder_bytes, make_bag, make_manifest

KINDS = ("kill", "kill-after", "torn", "ENOSPC", "EIO")
REPEATS = 5
BATCH = 500


def calls_of(store) -> list[str]:
    """List the calls that writing one bag makes."""
    faulty = FaultyOs(at=None, kind=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", faulty)
        store.write(make_bag("probe"))
    store.delete("probe")
    return faulty.calls


@pytest.mark.slow
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_fault_at_any_call_leaves_whole_bags(tmp_path, suffix, capsys):
    template = create_store(tmp_path / f"template{suffix}", make_manifest())
    template.write(make_bag("before", seed=1))
    calls = calls_of(template)
    undisturbed = create_store(tmp_path / f"undisturbed{suffix}", make_manifest())
    undisturbed.write(make_bag("before", seed=1))
    undisturbed.write(make_bag("killed", seed=len("killed")))
    assert [record.error for record in verify_store(undisturbed)] == [None, None]
    expected = folder_bytes(undisturbed.path / "bags")
    without = {name: data for name, data in expected.items() if not name.startswith("killed/")}
    cases = [(at, kind) for at in range(len(calls)) for kind in KINDS] * REPEATS
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for first in range(0, len(cases), BATCH):
        batch = cases[first : first + BATCH]
        faults = []
        for number, (at, kind) in enumerate(batch):
            copy = tmp_path / f"{number}{suffix}"
            shutil.copytree(template.path, copy, copy_function=os.link)  # files never change
            fault = {"path": str(copy), "at": at, "kind": kind, "bag": "killed"}
            faults.append({**fault, "replace": False})
        for fault, code in zip(faults, run_faults(faults), strict=True):
            store = open_store(fault["path"])
            is_there = "killed" in store
            assert folder_bytes(store.path / "bags") == (expected if is_there else without)
            is_error = fault["kind"] in ("ENOSPC", "EIO")
            assert code == (FAILED if is_error else -signal.SIGKILL)
            assert is_there or code != COMMITTED
            outcome = "whole" if is_there else "absent"
            outcomes[calls[fault["at"]], fault["kind"], outcome] += 1
            if not is_there:
                store.write(make_bag("killed", seed=len("killed")))
                assert folder_bytes(store.path / "bags") == expected
            shutil.rmtree(store.path)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{suffix}: {len(calls)} calls x {len(KINDS)} kinds of fault x {REPEATS} times = "
            f"{outcomes.total()} faults; each left the bag whole or absent"
        )
        for (call, kind, outcome), count in sorted(outcomes.items()):
            print(f"{call:8} {kind:12} {outcome:8} {count:5}")  # noqa: T201
    assert outcomes.total() == len(cases)
    assert {outcome for *_, outcome in outcomes} == {"absent", "whole"}
