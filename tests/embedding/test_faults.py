"""An embedding run that meets a fault, wherever on the write path, is completed by the next."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stores import NotAStoreError, files, open_store, verify_store
from tests.embedding.drawing import LABELS, bag_bytes, run
from tests.stores.faults import FAILED, FaultyOs

ROOT = Path(__file__).parents[2]
KINDS = ("kill", "kill-after", "torn", "ENOSPC", "EIO")
PLACES = 5  # of each call, spread over the run from creating the store to the last bag


def places_of(calls: list[str]) -> list[int]:
    """Choose places of every distinct call, its first and last among them."""
    chosen = set()
    for call in set(calls):
        at = [i for i, name in enumerate(calls) if name == call]
        chosen |= {at[round(k * (len(at) - 1) / (PLACES - 1))] for k in range(PLACES)}
    return sorted(chosen)


@pytest.mark.slow
def test_after_any_fault_embed_completes_the_store_to_the_byte(
    cohort_dir, store_path, tmp_path, encoder, capsys
):
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    counting = FaultyOs(at=None, kind=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", counting)
        run(cohort_dir, undisturbed, encoder, workers=1)
    expected = bag_bytes(undisturbed)
    faults = [
        {"at": at, "kind": kind, "path": str(tmp_path / f"{at}-{kind}{store_path.suffix}")}
        for at in places_of(counting.calls)
        for kind in KINDS
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.embedding.faults", str(cohort_dir)],
        input=json.dumps(faults),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for fault, code in zip(faults, json.loads(done.stdout), strict=True):
        is_error = fault["kind"] in ("ENOSPC", "EIO")
        assert code == (FAILED if is_error else -signal.SIGKILL)
        path = Path(fault["path"])
        outcome = check_intact(path, expected)
        outcomes[counting.calls[fault["at"]], fault["kind"], outcome] += 1
        run(cohort_dir, path, encoder, workers=1)
        assert bag_bytes(path) == expected
        shutil.rmtree(path)
    with capsys.disabled():
        print(f"\n{store_path.suffix}: {outcomes.total()} faults, each completed")  # noqa: T201
        for (call, kind, outcome), count in sorted(outcomes.items()):
            print(f"{call:8} {kind:12} {outcome:12} {count:4}")  # noqa: T201


def check_intact(path: Path, expected: dict[str, bytes]) -> str:
    """Every committed bag is the undisturbed one; say how many there are."""
    try:
        store = open_store(path)
    except NotAStoreError:
        return "no store yet"
    found = bag_bytes(path)
    assert {name: expected[name] for name in found if "bags/zarr.json" not in name} == {
        name: data for name, data in found.items() if "bags/zarr.json" not in name
    }
    assert [record.error for record in verify_store(store)] == [None] * len(store)
    assert set(store.bag_ids) <= set(LABELS)
    return f"{len(store)} of {len(LABELS)} bags"
