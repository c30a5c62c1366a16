"""Flip single bits in the files of a store and see what its readers say."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stores import BagDamagedError, StoreError, create_store, open_store
from tests.stores.samples import bag_values, folder_bytes, make_bag, make_manifest

BAG_IDS = ("AQK", "a/b", "x" * 130)


@dataclass(kw_only=True)
class FlipReport:
    """Where bits were flipped and what came of it.

    Attributes:
        caught: Flips by kind of file that were an error naming the bag (or the store).
        harmless: Flips by kind of file after which every read returned what was written.
        wrong: Flips that changed what a reader returned, or raised something foreign.
    """

    caught: Counter = field(default_factory=Counter)
    harmless: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def table(self) -> str:
        kinds = sorted(self.caught.keys() | self.harmless.keys())
        rows = [f"{kind:28} {self.caught[kind]:6} {self.harmless[kind]:8}" for kind in kinds]
        return "\n".join([f"{'file':28} {'caught':>6} {'harmless':>8}", *rows])


def build_store(path: Path) -> dict[str, dict]:
    """Create a small store; return what its readers must return."""
    store = create_store(path, make_manifest())
    for seed, bag_id in enumerate(BAG_IDS):
        store.write(make_bag(bag_id, seed=seed, num=4))
    store.log({"event": "embed", "cells": 12})
    return {"manifest": store.manifest, "log": store.read_log()} | {
        bag_id: bag_values(store.read(bag_id)) for bag_id in BAG_IDS
    }


def kind_of(name: str, position: int, regions: dict[str, list[tuple[int, int, str]]]) -> str:
    """Name the kind of a place, e.g. ``features/c/0/0``, ``*.h5 features`` or ``*.h5 headers``."""
    parts = name.split("/")
    if parts[0] != "bags" or len(parts) == 2:
        return f"/{name}"
    if not name.endswith(".h5"):
        return "/".join(parts[2:])
    arrays = [array for first, end, array in regions[name] if first <= position < end]
    return f"*.h5 {arrays[0] if arrays else 'headers'}"


def array_regions(path: Path) -> dict[str, list[tuple[int, int, str]]]:
    """For each file, list where arrays' bytes lie in it as (first byte, end, array)."""
    store = open_store(path)
    regions: dict[str, list[tuple[int, int, str]]] = {name: [] for name in folder_bytes(path)}
    for bag_id in store.bag_ids:
        record, _ = store.read_files(bag_id)
        folder = store.bag_path(bag_id)
        for name, entry in record.arrays.items():
            file = folder / store.layout.array_file(folder.name, name, entry.spec)
            region = (entry.offset, entry.offset + entry.nbytes, name)
            regions[file.relative_to(path).as_posix()].append(region)
    return regions


def places_of(path: Path, *, chunks: bool | None) -> list[tuple[str, int, int]]:
    """List parts of files as (file, first byte, end).

    Args:
        path: Folder of the store.
        chunks: Only arrays' bytes (True), only everything else (False), or whole files (None).
    """
    names = folder_bytes(path)
    if chunks is None:
        return [(name, 0, len(data)) for name, data in names.items()]
    places = []
    regions = array_regions(path)
    for name, data in names.items():
        if chunks:
            places += [(name, first, end) for first, end, _ in regions[name]]
            continue
        position = 0
        for first, end, _ in [*sorted(regions[name]), (len(data), len(data), "")]:
            if position < first:
                places.append((name, position, first))
            position = end
    return places


def flip_bits(
    path: Path, expected: dict, *, num: int, seed: int, chunks: bool | None = None
) -> FlipReport:
    """Flip ``num`` bits one after the other: a random place, then a random bit of it."""
    rng = np.random.default_rng(seed)
    places = places_of(path, chunks=chunks)
    folders = {f"bags/{open_store(path).bag_path(i).name}/": i for i in BAG_IDS}
    regions = array_regions(path)
    report = FlipReport()
    for _ in range(num):
        name, first, end = places[rng.integers(len(places))]
        position, bit = int(rng.integers(first, end)), int(rng.integers(8))
        original = (path / name).read_bytes()
        changed = bytearray(original)
        changed[position] ^= 1 << bit
        (path / name).write_bytes(changed)
        bag_id = next((i for folder, i in folders.items() if name.startswith(folder)), None)
        try:
            outcome = _ask(path, expected, bag_id)
        except (StoreError, AssertionError) as error:
            outcome = f"wrong: {error!r}"
        if outcome.startswith("wrong"):
            report.wrong.append(f"{name} byte {position} bit {bit}: {outcome}")
        else:
            counts = report.caught if outcome == "caught" else report.harmless
            counts[kind_of(name, position, regions)] += 1
        (path / name).write_bytes(original)
    return report


def _ask(path: Path, expected: dict, bag_id: str | None) -> str:
    """Read everything the flip could have changed."""
    try:
        store = open_store(path)
    except StoreError as error:
        return "caught" if bag_id is None and str(path) in str(error) else f"wrong: {error!r}"
    assert store.manifest == expected["manifest"]
    assert len(store) == len(BAG_IDS)
    log_is_damaged = store.read_log() != expected["log"]
    assert not log_is_damaged or all("unreadable" in event for event in store.read_log())
    if bag_id is None:
        assert all(bag_values(store.read(i)) == expected[i] for i in BAG_IDS)
        return "caught" if log_is_damaged else "harmless"
    try:
        assert bag_values(store.read(bag_id)) == expected[bag_id]
    except BagDamagedError as error:
        return "caught" if repr(bag_id) in str(error) else f"wrong: {error!r}"
    return "harmless"
