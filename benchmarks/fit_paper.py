"""The paper's 15 heads by one `fit-mil`, beside the field's loop on the same store.

    python -m benchmarks.fit_paper [--patients 218] [--cells 468] [--views 4] [--map-side 0]
        [--epochs 50] [--seeds 3] [--precision bf16] [--device auto] [--seconds 60] [--json FILE]

The store is drawn: the paper's size, four views of 512 float16 numbers (or of maps of 5x5 of them,
`--map-side 5`), five classes that the features do not tell apart; no head stops early, so that all
bags of all epochs are trained on. `--seeds 12` are as many heads as four encoders of three seeds.
`fit-mil` is the whole command, from start-up to the run folder, floors and attention included;
`training` is what it says its training and validation took. The loop is `fit_throughput`'s, in its
best setting: its time is that of as many training bags at the rate it keeps for ``--seconds``,
without start-up, validation and draws.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from aml_mil.runtime import describe_device, resolve_device
from benchmarks.fit_steps import Job, Measured, find_loops, measure
from benchmarks.store_io import VIEWS, make_manifest, write_store
from stores import Bag

CLASSES = ("APL", "CBFB", "NPM1", "RUNX1", "control")
DIM = 512
TRAINING_SHARE = 0.6


def draw_bags(given: argparse.Namespace, sides: tuple[int, ...]) -> Iterator[Bag]:
    """Draw patients of equal size, one after the other."""
    generator = np.random.default_rng(0)
    for number in range(given.patients):
        shape = (given.views, given.cells, DIM, *sides)
        features = generator.standard_normal(shape, dtype=np.float32).astype(np.float16)
        yield Bag(
            bag_id=f"P{number:04d}",
            label=CLASSES[number % len(CLASSES)],
            features=features[0],
            views=features[1:] if given.views > 1 else None,
            instance_ids=tuple(f"image_{cell}.tif" for cell in range(given.cells)),
        )


def time_fit(store: Path, given: argparse.Namespace) -> tuple[float, float]:
    """Run `fit-mil`; gives the seconds of the command, and of its training."""
    flags = {
        "--epochs": given.epochs,
        "--patience": given.epochs,
        "--seeds": given.seeds,
        "--precision": given.precision,
        "--device": given.device,
        "--lr": 1e-4,  # nothing diverges: there is nothing to learn
    }
    words = [str(word) for pair in flags.items() for word in pair]
    command = [sys.executable, "-m", "cli", "fit-mil", str(store), "--out", str(store) + ".run"]
    started = time.perf_counter()
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"fit-mil failed:\n{done.stdout}{done.stderr}")
    said = re.search(r"training took ([0-9.]+) s", done.stdout + done.stderr)
    assert said is not None, "fit-mil does not say how long its training took"
    return seconds, float(said[1])


def time_loop(store: Path, given: argparse.Namespace, *, precision: str) -> Measured:
    """Measure the loop in its best setting."""
    job = Job(
        step="loop",
        precision=precision,
        store=str(store),
        seconds=given.seconds,
        device=resolve_device(given.device).type,
    )
    return max((measure(setting) for setting in find_loops(job)), key=lambda m: m.bags_per_s)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=218)
    parser.add_argument("--cells", type=int, default=468, help="of each patient")
    parser.add_argument("--views", type=int, default=len(VIEWS))
    parser.add_argument("--map-side", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3, help="times five folds")
    parser.add_argument("--precision", default="bf16", help="of fit-mil")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=60, help="of each setting of the loop")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    num_bags = int(given.patients * TRAINING_SHARE) * given.epochs * 5 * given.seeds
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "paper.zarr"
        sides = (given.map_side,) * 2 if given.map_side else ()
        write_store(store, draw_bags(given, sides), make_manifest(given.views, (DIM, *sides)))
        command_s, training_s = time_fit(store, given)
        loops = {p: time_loop(store, given, precision=p) for p in ("fp32", "bf16")}
    loop_s = {p: num_bags / loop.bags_per_s for p, loop in loops.items()}
    rows: list[list[Any]] = [
        [f"fit-mil {given.precision}, whole command", command_s, num_bags / command_s],
        [f"fit-mil {given.precision}, training", training_s, num_bags / training_s],
        *([f"loop {p}", loop_s[p], loops[p].bags_per_s] for p in loops),
    ]
    device = describe_device(resolve_device(given.device))
    print(f"{device}: {5 * given.seeds} heads, {given.epochs} epochs, {num_bags} bags")
    print(tabulate(rows, headers=["", "seconds", "bags/s"], floatfmt=".4g"))
    ratios = {f"loop_{p}_vs_command": loop_s[p] / command_s for p in loops}
    print(", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    if given.json:
        document = {
            "device": device,
            "torch": torch.__version__,
            "bags": num_bags,
            "command_s": command_s,
            "training_s": training_s,
            "loop_s": loop_s,
            "ratios": ratios,
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
