"""Write and load the store of a cohort, beside the bare bytes and the neighbours' layouts.

    python -m benchmarks.store_io [--patients 218] [--cells 468] [--dim 512] [--views 4]
        [--rounds 3] [--folder DIR] [--json FILE]

The defaults are the cohort of the paper: 102,024 cells, four views of 512 float16 numbers, 418 MB.
All layouts hold the same numbers; all files are in the cache of the system when they are loaded.
`readinto` reads one file of these bytes into memory that was touched before: nothing loads faster.
`of_readinto` is the time of a load beside that; `pack_bags` checks every byte on the way, the
others none (`.h5` its checksums, if it has any). `info` is in microseconds a bag.
Seconds of CPU time are beside those of the clock: where other programs run, they are steadier.
The best of the rounds counts.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from stores import Bag, Manifest, create_store, open_store, pack_bags, store_info

VIEWS = ("identity", "hflip", "vflip", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The best round of one step."""

    seconds: float
    cpu_s: float


def measure(work: Callable[[int], object], *, rounds: int) -> Measured:
    """Repeat some work, which is given the number of the round."""
    found = []
    for number in range(rounds):
        clock, cpu = time.perf_counter(), time.process_time()
        work(number)
        found.append((time.perf_counter() - clock, time.process_time() - cpu))
    return Measured(seconds=min(f[0] for f in found), cpu_s=min(f[1] for f in found))


def draw_bags(given: argparse.Namespace) -> list[Bag]:
    """Draw patients of equal size; most share their numbers, which no layout can notice."""
    generator = np.random.default_rng(0)
    shape = (given.views, given.cells, given.dim)
    drawn = [generator.standard_normal(shape).astype(np.float16) for _ in range(4)]
    colour = generator.random((given.cells, 6), dtype=np.float32)
    return [
        Bag(
            bag_id=f"P{number:06d}",
            features=drawn[number % 4][0],
            views=drawn[number % 4][1:] if given.views > 1 else None,
            instance_ids=tuple(f"image_{cell}.tif" for cell in range(given.cells)),
            colour=colour,
            label="AB"[number % 2],
        )
        for number in range(given.patients)
    ]


def make_manifest(num_views: int, feature_shape: tuple[int, ...]) -> Manifest:
    """Describe a drawn store."""
    return Manifest(
        encoder="none",
        architecture="none",
        weights="none",
        weights_sha256="0" * 64,
        preprocessing={},
        numerics={},
        views=VIEWS[:num_views],
        feature_shape=feature_shape,
        trained_on=(),
    )


def whole(bag: Bag) -> NDArray[Any]:
    """All views of a bag, [V, N, D]."""
    views = [] if bag.views is None else [bag.views]
    return np.concatenate([bag.features[None], *views])


def write_store(path: Path, bags: Iterable[Bag], manifest: Manifest) -> None:
    """Commit every bag, each synced to the disk."""
    with create_store(path, manifest) as store:
        for bag in bags:
            store.write(bag)


def write_h5(folder: Path, bags: Sequence[Bag]) -> None:
    """A file a patient with one dataset, as TRIDENT and CLAM have it; nothing is synced."""
    folder.mkdir()
    for bag in bags:
        with h5py.File(folder / f"{bag.bag_id}.h5", "w") as file:
            file.create_dataset("features", data=whole(bag))


def write_pt(folder: Path, bags: Sequence[Bag]) -> None:
    """A tensor a patient, as CLAM and slideflow have it; nothing is synced."""
    folder.mkdir()
    for bag in bags:
        torch.save(torch.from_numpy(whole(bag)), folder / f"{bag.bag_id}.pt")


def load_h5(folder: Path) -> NDArray[Any]:
    """Read all files to one array."""
    parts = []
    for path in sorted(folder.iterdir()):
        with h5py.File(path) as file:
            parts.append(file["features"][...])
    return np.concatenate(parts, axis=1)


def load_pt(folder: Path) -> torch.Tensor:
    """Read all tensors to one."""
    return torch.cat([torch.load(p, weights_only=True) for p in sorted(folder.iterdir())], dim=1)


def read_into(path: Path, target: NDArray[np.uint8]) -> None:
    """Read a file into memory that is there."""
    with path.open("rb", buffering=0) as file:
        rest = memoryview(target)
        while rest:
            rest = rest[file.readinto(rest) or len(rest) :]


def run(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure all layouts below a folder."""
    bags, manifest, rounds = (
        draw_bags(given),
        make_manifest(given.views, (given.dim,)),
        given.rounds,
    )
    numbers = np.concatenate([whole(bag) for bag in bags], axis=1)
    raw, npy = folder / "raw.bin", folder / "all.npy"
    numbers.tofile(raw)
    target = np.ones(numbers.nbytes, dtype=np.uint8)
    one = rounds - 1  # the last round's files are loaded
    steps: dict[str, dict[str, Any]] = {}

    def both(name: str, write: Callable[[int], object], load: Callable[[int], object]) -> None:
        written = measure(write, rounds=rounds)
        steps[name] = {"write": asdict(written), "load": asdict(measure(load, rounds=rounds))}
        print(name, flush=True)

    both("readinto", lambda _: numbers.tofile(raw), lambda _: read_into(raw, target))
    both(".npy", lambda _: np.save(npy, numbers), lambda _: np.load(npy))
    info = {}
    for suffix in (".zarr", ".h5store"):

        def path(number: int, suffix: str = suffix) -> Path:
            return folder / f"{number}{suffix}"

        both(
            f"{suffix}, pack_bags",
            lambda number, path=path: write_store(path(number), bags, manifest),
            lambda _, path=path: pack_bags(open_store(path(one))),
        )
        with open_store(path(one)) as store:
            assert np.array_equal(pack_bags(store).features, numbers)
            told = measure(lambda _, store=store: store_info(store), rounds=rounds)
        info[suffix] = {name: 1e6 * value / len(bags) for name, value in asdict(told).items()}
    both(
        ".h5 a patient",
        lambda number: write_h5(folder / f"h5-{number}", bags),
        lambda _: load_h5(folder / f"h5-{one}"),
    )
    both(
        ".pt a patient",
        lambda number: write_pt(folder / f"pt-{number}", bags),
        lambda _: load_pt(folder / f"pt-{one}"),
    )
    floor = steps["readinto"]["load"]
    for step in steps.values():
        step["of_readinto"] = {key: value / floor[key] for key, value in step["load"].items()}
    return {"bytes": numbers.nbytes, "steps": steps, "info_us_per_bag": info}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    rows = [
        [
            name,
            *(step[kind][key] for kind in ("write", "load") for key in ("seconds", "cpu_s")),
            *step["of_readinto"].values(),
        ]
        for name, step in result["steps"].items()
    ]
    headers = ["layout", "write s", "write CPU s", "load s", "load CPU s"]
    print(f"\n{result['bytes'] / 1e6:.0f} MB of numbers")
    print(tabulate(rows, headers=[*headers, "of readinto", "by CPU"], floatfmt=".3g"))
    for suffix, info in result["info_us_per_bag"].items():
        print(f"info, {suffix}: {info['seconds']:.1f} us a bag ({info['cpu_s']:.1f} of CPU)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=218)
    parser.add_argument("--cells", type=int, default=468, help="of each patient")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--views", type=int, choices=range(1, 5), default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        result = run(Path(name), given)
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
