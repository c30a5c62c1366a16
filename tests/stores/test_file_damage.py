"""Every file of a store deleted, emptied, cut, lengthened, or put in another one's place.

Whoever reads gets what was written, or an error that names the bag (the manifest: the store).
"""

from collections import Counter

import pytest

from stores import BagDamagedError, StoreError, open_store, verify_store
from tests.stores.flips import BAG_IDS, build_store, kind_of
from tests.stores.samples import SUFFIXES, bag_values, folder_bytes
from tests.stores.test_bit_flips import SURROUNDINGS

WAYS = ("deleted", "emptied", "halved", "one byte longer", "of another bag", "of another file")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_file_can_be_lost_cut_or_swapped_unseen(tmp_path, suffix, capsys):
    path = tmp_path / f"small{suffix}"
    expected = build_store(path)
    contents = folder_bytes(path)
    folders = {open_store(path).bag_path(bag_id).name: bag_id for bag_id in BAG_IDS}
    regions = {name: [] for name in contents}
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for name, data in contents.items():
        bag_id = folders.get(name.split("/")[1]) if name.startswith("bags/") else None
        for way, changed in damages(name, data, contents, list(folders)):
            (path / name).unlink()
            if changed is not None:
                (path / name).write_bytes(changed)
            outcome = ask(path, expected, bag_id)
            outcomes[kind_of(name, -1, regions), way, outcome] += 1
            (path / name).write_bytes(data)
    assert not ask(path, expected, None).startswith("error")
    with capsys.disabled():
        print(f"\n{suffix}: {outcomes.total()} damages to {len(contents)} files")  # noqa: T201
        rows = Counter((kind, outcome) for kind, _, outcome in outcomes.elements())
        for (kind, outcome), count in sorted(rows.items()):
            print(f"{kind.removesuffix(' headers'):28} {outcome:24} {count:3}")  # noqa: T201
    expected_outcomes = {"unread by this package", "error names the bag", "error names the store"}
    assert {outcome for *_, outcome in outcomes} == expected_outcomes
    harmless = {kind for kind, _, outcome in outcomes if outcome == "unread by this package"}
    assert harmless <= SURROUNDINGS | {"/log.jsonl"}
    assert {way for _, way, _ in outcomes} == set(WAYS)


def damages(name, data, contents, folders):
    """Yield (way, new content) of everything that can befall a file; None stands for no file."""
    yield "deleted", None
    yield "emptied", b""
    yield "halved", data[: len(data) // 2]
    yield "one byte longer", data + b"\0"
    own = next((folder for folder in folders if folder in name), None)
    if own is not None:
        for folder in set(folders) - {own}:
            if contents[name.replace(own, folder)] != data:
                yield "of another bag", contents[name.replace(own, folder)]
    other = next(file for file in contents if contents[file] != data and folder_of(file) == own)
    yield "of another file", contents[other]


def folder_of(name):
    return name.split("/")[1] if name.startswith("bags/") and name.count("/") > 1 else None


def ask(path, expected, bag_id):
    """Read everything; a wrong value, or an error that names nothing, fails the test."""
    try:
        store = open_store(path)
    except StoreError as error:
        return "error names the store" if bag_id is None and str(path) in str(error) else str(error)
    assert store.manifest == expected["manifest"]
    assert all(event in expected["log"] or "unreadable" in event for event in store.read_log())
    outcome = "unread by this package"
    for each in BAG_IDS:
        try:
            assert bag_values(store.read(each)) == expected[each]
        except BagDamagedError as error:
            named = each == bag_id and repr(bag_id) in str(error)
            outcome = "error names the bag" if named else str(error)
    found = [record.bag_id for record in verify_store(store) if record.error]
    assert ("" in found) == (store.frame_error() is not None)
    damaged = [store.bag_path(each) for each in found if each]  # by folder where the id is lost
    assert damaged == ([store.bag_path(bag_id)] if outcome == "error names the bag" else [])
    return outcome
