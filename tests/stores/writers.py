"""Writers that die at random calls and are started again until all their bags are written.

``python -m tests.stores.writers`` reads the settings from stdin, forks the writers, and prints how
often each was killed.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stores import BagExistsError, files, open_store
from tests.stores.faults import FaultyOs
from tests.stores.samples import make_bag

KILLS = ("kill", "kill-after", "torn")


def own_ids(writer: int, num_bags: int) -> list[str]:
    return [f"{writer}-{number}" for number in range(num_bags)]


def shared_ids(num_bags: int) -> list[str]:
    return [f"shared-{number}" for number in range(num_bags)]


def seed_of(bag_id: str) -> int:
    return sum(ord(letter) * 131**i for i, letter in enumerate(bag_id))


def write_bags(
    path: str, *, writer: int, life: int, num_bags: int, num_shared: int, calls_to_live: int
) -> None:
    """Write what is missing, noting each id after ``write`` returned, until killed or done."""
    rng = np.random.default_rng([writer, life])
    at, kind = int(rng.integers(calls_to_live)), KILLS[int(rng.integers(len(KILLS)))]
    notes = os.open(f"{path}.written-{writer}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = open_store(path)
    files.os = FaultyOs(at=at, kind=kind)  # type: ignore[assignment]
    for bag_id in rng.permutation([*own_ids(writer, num_bags), *shared_ids(num_shared)]):
        if bag_id in store:
            continue
        try:
            store.write(make_bag(str(bag_id), num=2, seed=seed_of(bag_id)))
        except BagExistsError:
            assert bag_id.startswith("shared")
            continue
        os.write(notes, f"{bag_id}\n".encode())


def run_writers(path: Path, **settings: int) -> list[int]:
    """Run the writers in processes of their own; return how often each was killed."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.writers"],
        input=json.dumps({"path": str(path), **settings}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    kills: list[int] = json.loads(done.stdout)
    return kills


def start(writer: int, life: int, settings: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write_bags(writer=writer, life=life, **settings)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def main() -> None:
    os.fsync = lambda descriptor: None  # what is written outlives a killed process without
    settings = json.load(sys.stdin)
    num_writers = settings.pop("num_writers")
    kills = [0] * num_writers
    alive = {start(writer, 0, settings): writer for writer in range(num_writers)}
    while alive:
        child, status = os.wait()
        writer, code = alive.pop(child), os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            kills[writer] += 1
            alive[start(writer, kills[writer], settings)] = writer
        elif code:
            raise SystemExit(f"writer {writer} failed with code {code}")
    json.dump(kills, sys.stdout)


if __name__ == "__main__":
    main()
