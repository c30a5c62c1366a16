"""Patients a second of `giga-ssl`, beside what its step alone could do.

    python -m benchmarks.giga_throughput [STORE] [--cells 5,50] [--sparse-cells 5]
        [--patients 256] [--batch-size 256] [--seconds 8] [--json FILE]

Without a store: synthetic features of 512 dimensions, six views, places. `run`: draws, gathering
from the packed store, step. `ceiling`: the same step on sets that lie on the device already.
`draws`: draws and gathering alone. `products`: the matrix products of the step alone, which no
step can beat. A patient is one patient of a step, both of its views.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from aml_mil.giga.bags import CellSets, PatientBags, read_bags
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.run import GigaRun
from aml_mil.runtime import describe_device, resolve_device
from stores import Bag, Manifest, create_store

WARM_UP_STEPS, MIN_STEPS = 1, 3
NUM_FEATURES, NUM_VIEWS, CELLS_PER_PATIENT = 512, 6, 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One encoder's rates, in patients a second."""

    encoder: str
    cells: int
    batch_size: int
    run: float
    ceiling: float
    draws: float
    products: float | None

    @property
    def share(self) -> float:
        """How much of the ceiling the run reaches."""
        return self.run / self.ceiling


def write_synthetic(path: Path, *, num_patients: int) -> Path:
    """Write noise as patients with places; labels are not looked at."""
    rng = np.random.default_rng(0)
    manifest = Manifest(
        encoder="noise",
        architecture="benchmarks/noise",
        weights="random:0",
        weights_sha256="0" * 64,
        preprocessing={"image_size_px": 144},
        numerics={},
        views=("identity", *(f"shared{v}" for v in range(1, NUM_VIEWS))),
        feature_shape=(NUM_FEATURES,),
        trained_on=(),
    )
    shape = (NUM_VIEWS, CELLS_PER_PATIENT, NUM_FEATURES)
    with create_store(path, manifest) as store:
        for number in range(num_patients):
            features = rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
            bag = Bag(
                bag_id=f"P{number:04d}",
                features=features[0],
                views=features[1:],
                instance_ids=tuple(f"cell_{n}" for n in range(CELLS_PER_PATIENT)),
                coords=rng.uniform(0, 12, (CELLS_PER_PATIENT, 2)).astype(np.float32),
            )
            store.write(bag)
    return path


def measure(bags: PatientBags, config: GigaConfig, *, seconds: float, folder: Path) -> Row:
    """Time one encoder.

    Args:
        bags: Patients, on the device.
        config: Settings.
        seconds: To spend on each rate.
        folder: For the run's files; none are written.
    """
    device = bags.table.device
    run = GigaRun(bags, config, folder / "giga.safetensors", device=device)
    resident = run.next_sets()

    def whole_step() -> None:
        run.trainer.step(run.next_sets(), step=run.steps_done)
        run.steps_done += 1

    def resident_step() -> None:
        run.trainer.step(resident, step=0)

    def draws() -> None:
        run.next_sets()
        run.steps_done += 1

    size = run.batch_size
    kind = run.trainer.contrast.encoder.shape.kind
    return Row(
        encoder=kind,
        cells=config.cells,
        batch_size=size,
        run=size / _seconds_a_call(whole_step, seconds, device),
        ceiling=size / _seconds_a_call(resident_step, seconds, device),
        draws=size / _seconds_a_call(draws, seconds, device),
        products=(
            size / _seconds_a_call(_products(resident, config), seconds, device)
            if kind == "set"
            else None
        ),
    )


def _products(sets: CellSets, config: GigaConfig) -> Callable[[], None]:
    """The set encoder's two layers: forward, and backward by weights and by inputs."""
    rows = sets.features.flatten(0, 1)
    first = torch.randn(rows.shape[1], config.width, device=rows.device)
    second = torch.randn(config.width, config.width, device=rows.device)

    def multiply() -> None:
        hidden = rows @ first
        out = hidden @ second
        back = out @ second.T
        for left, right in ((rows, back), (hidden, out)):
            _ = left.T @ right

    return multiply


def _seconds_a_call(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    for _ in range(WARM_UP_STEPS):
        call()
    _wait(device)
    began, count = time.perf_counter(), 0
    while count < MIN_STEPS or time.perf_counter() - began < seconds:
        call()
        count += 1
    _wait(device)
    return (time.perf_counter() - began) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--cells", default="5,50", help="of a view, for the set encoder")
    parser.add_argument("--sparse-cells", default="5", help="the same for the sparse encoder")
    parser.add_argument("--patients", type=int, default=256, help="of the synthetic store")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0, help="to spend on each rate")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or write_synthetic(
            Path(folder) / "noise.zarr", num_patients=options.patients
        )
        bags = read_bags(store, device=device)
        chosen = [("set", int(n)) for n in options.cells.split(",") if n]
        if bags.places is not None:
            chosen += [("sparse", int(n)) for n in options.sparse_cells.split(",") if n]
        rows = [
            measure(
                bags,
                GigaConfig(encoder=kind, cells=cells, batch_size=options.batch_size),
                seconds=options.seconds,
                folder=Path(folder),
            )
            for kind, cells in chosen
        ]
    headers = ["encoder", "cells", "run, patients/s", "ceiling", "share", "draws", "products"]
    table = [[r.encoder, r.cells, r.run, r.ceiling, r.share, r.draws, r.products] for r in rows]
    print(
        f"{describe_device(device)}, {len(bags.patient_ids)} patients, batch {rows[0].batch_size}"
    )
    print(tabulate(table, headers=headers, floatfmt=".3g"))
    if options.json:
        document = {
            "device": describe_device(device),
            "options": {key: str(value) for key, value in vars(options).items()},
            "rows": [{**asdict(row), "share": row.share} for row in rows],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
