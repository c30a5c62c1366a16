"""What `benchmarks.fit_throughput` measures: one function a step, each in its own process."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

NUM_BAGS, NUM_CLASSES, NUM_FEATURES = 41, 5, 512
MATMUL_SIZE = 4096
CORES = 2
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement.

    Attributes:
        step: matmul, loop, or ours.
        precision: fp32 or bf16.
        replicates: Heads that train at once; a loop trains one.
        cells: Cells of a synthetic bag.
        map_side: Side of the maps; 0 for vectors.
        store: Path of a store in place of synthetic bags.
        seconds: Least time to measure.
        threads: Of the process.
        processes: That run beside each other.
        weights: Of the loop in bf16: autocast (fp32 weights), or bf16.
        device: cpu or cuda.
    """

    step: str
    precision: str
    replicates: int = 1
    cells: int = 467
    map_side: int = 0
    store: str = ""
    seconds: float = 6.0
    threads: int = 2
    processes: int = 1
    weights: str = "autocast"
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step took, all processes together.

    Attributes:
        bags: Trained on; for matmul, products.
        gflop: Of their arithmetic, without padding.
        seconds: Of wall clock, once everything is ready.
        cpu_s: Of all cores and processes together.
        start_up_s: Imports, data, first steps.
        peak_mib: Of the largest process.
    """

    bags: float
    gflop: float
    seconds: float
    cpu_s: float
    start_up_s: float
    peak_mib: float

    @property
    def bags_per_s(self) -> float:
        """Bags a second."""
        return self.bags / self.seconds

    @property
    def gflop_per_s(self) -> float:
        """Rate of the arithmetic."""
        return self.gflop / self.seconds


def find_loops(job: Job) -> list[Job]:
    """Return the settings of the loop, of which the best counts."""
    shares = ((CORES, 1), (1, CORES)) if job.device == "cpu" else ((CORES, 1),)
    return [
        replace(job, weights=weights, threads=threads, processes=processes)
        for weights in (("autocast", "bf16") if job.precision == "bf16" else ("autocast",))
        for threads, processes in shares
    ]


def measure(job: Job) -> Measured:
    """Run a job in processes of its own, beside each other if it has several."""
    alone = replace(job, processes=1)
    running = [_start(alone) for _ in range(job.processes)]
    found = [Measured(**_result(process)) for process in running]
    return Measured(
        bags=sum(m.bags / m.seconds for m in found),
        gflop=sum(m.gflop / m.seconds for m in found),
        seconds=1.0,
        cpu_s=sum(m.cpu_s / m.seconds for m in found),
        start_up_s=max(m.start_up_s for m in found),
        peak_mib=max(m.peak_mib for m in found),
    )


def run_step(job: Job) -> dict[str, Any]:
    """Measure a job in this process."""
    begun = time.perf_counter()
    torch.set_num_threads(job.threads)
    rng = np.random.default_rng(0)
    units = STEPS[job.step](job, rng)
    for _ in range(3 if job.step == "loop" else 1):
        next(units)
    _wait(job)
    ready, cpu = time.perf_counter(), time.process_time()
    bags = gflop = 0.0
    while time.perf_counter() - ready < job.seconds:
        for _ in range(1 if job.device == "cpu" else UNITS_AHEAD[job.step]):
            done, spent = next(units)
            bags, gflop = bags + done, gflop + spent
        _wait(job)
    return asdict(
        Measured(
            bags=bags,
            gflop=gflop,
            seconds=time.perf_counter() - ready,
            cpu_s=time.process_time() - cpu,
            start_up_s=ready - begun,
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )
    )


def _wait(job: Job) -> None:
    if job.device != "cpu":
        torch.cuda.synchronize()


Units = Iterator[tuple[float, float]]
"""Bags and GFLOP of what was just done, without end."""


def products(job: Job, rng: np.random.Generator) -> Units:
    """Large square matrix products of a number format: the ceiling."""
    size = (MATMUL_SIZE, MATMUL_SIZE)
    first, second = (
        torch.from_numpy(rng.standard_normal(size)).to(job.device, DTYPES[job.precision])
        for _ in "ab"
    )
    out = torch.empty_like(first)
    while True:
        torch.mm(first, second, out=out)
        yield 1, 2 * MATMUL_SIZE**3 / 1e9


def loop(job: Job, rng: np.random.Generator) -> Units:
    """The field's loop: one bag a step, every bag in memory in the format that is multiplied."""
    from torch.nn.functional import cross_entropy

    from aml_mil.mil.head import initial_head

    features, offsets, targets, shape = _bags(job, rng)
    is_bf16 = job.precision == "bf16"
    bags = [
        torch.from_numpy(features[0, offsets[i] : offsets[i] + size]).to(
            job.device, DTYPES[job.precision]
        )
        for i, size in enumerate(np.minimum(np.diff(offsets), 500))
    ]
    head = initial_head(shape, seed=0).to(job.device)
    labels = torch.from_numpy(targets).to(job.device)
    if is_bf16 and job.weights == "bf16":
        head = head.bfloat16()
    is_autocast = is_bf16 and job.weights == "autocast"
    optimiser = torch.optim.SGD(head.parameters(), lr=1e-4, momentum=0.9, nesterov=True, fused=True)
    while True:
        for i, cells in enumerate(bags):
            optimiser.zero_grad()
            with torch.autocast(job.device, torch.bfloat16, enabled=is_autocast):
                logits = head(cells).logits
            cross_entropy(logits.float(), labels[i]).backward()
            optimiser.step()
            yield 1, len(cells) * flop_per_cell(shape) / 1e9


def stacked(job: Job, rng: np.random.Generator) -> Units:
    """Ours: epochs of the engine, draws, packing, gathering and optimiser included.

    One bag is validated an epoch and not counted.
    """
    from aml_mil.mil.config import FitConfig
    from aml_mil.mil.engine import Replicate, ResidentBags, Training

    features, offsets, targets, shape = _bags(job, rng)
    bags = ResidentBags(
        [features],
        offsets=offsets,
        targets=targets,
        dtype=DTYPES[job.precision],
        device=torch.device(job.device),
    )
    places = np.arange(len(targets))
    train = places[1:11] if job.map_side else places[1:]
    replicates = [
        Replicate(fold=r, seed=0, store=0, train=train, validation=places[:1])
        for r in range(job.replicates)
    ]
    config = FitConfig(lr=1e-4, epochs=10**6, patience=10**6)
    training = Training(replicates, bags, shape=shape, config=config)
    per_cell = flop_per_cell(shape) / 1e9
    mean_size = np.minimum(bags.sizes[train], config.max_cells).mean()
    while True:
        training.run_epoch()
        count = len(train) * job.replicates
        yield count, count * mean_size * per_cell


def flop_per_cell(shape: Any) -> float:
    """Arithmetic of one cell in one training step: the layers over cells, forward and backward.

    A multiplication and an addition are two. The first layer needs no gradient of its inputs;
    pooling and the classifiers of a bag are left out.
    """
    positions, sides = [1] * len(shape.widths), list(shape.map_size)
    taps = 4 if sides else 1
    if sides:
        positions = [(sides[0] - i) * (sides[1] - i) for i in range(1, len(shape.widths) + 1)]
    inputs = (shape.feature_shape[0], *shape.widths[:-1])
    layers = [taps * i * o * p for i, o, p in zip(inputs, shape.widths, positions, strict=True)]
    attention = shape.attention_hidden * (shape.widths[-1] + shape.num_classes)
    return 6 * (sum(layers) + attention) - 2 * layers[0]


def _bags(job: Job, rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Return features [V, N, …], offsets, targets and the head's shape."""
    from aml_mil.mil.head import HeadShape

    if job.store:
        from stores import open_store, pack_bags

        with open_store(job.store) as store:
            packed = pack_bags(store)
        labels = sorted({label or "" for label in packed.labels})
        targets = np.array([labels.index(label or "") for label in packed.labels])
        feature_shape = packed.features.shape[2:]
        shape = HeadShape(feature_shape=feature_shape, num_classes=len(labels))
        return packed.features, packed.offsets, targets, shape
    num_bags = 11 if job.map_side else NUM_BAGS
    sides = (job.map_side, job.map_side) if job.map_side else ()
    feature_shape = (NUM_FEATURES, *sides)
    cells = rng.standard_normal((1, num_bags * job.cells, *feature_shape), dtype=np.float32)
    offsets = np.arange(num_bags + 1) * job.cells
    shape = HeadShape(feature_shape=feature_shape, num_classes=NUM_CLASSES)
    return cells.astype(np.float16), offsets, np.arange(num_bags) % NUM_CLASSES, shape


def _start(job: Job) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.fit_throughput", "--job", json.dumps(asdict(job))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a step failed with exit code {process.returncode}; see above")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


STEPS: dict[str, Callable[..., Units]] = {"matmul": products, "loop": loop, "ours": stacked}
UNITS_AHEAD = {"matmul": 20, "loop": 100, "ours": 1}
"""What a GPU is given before it is waited for; an epoch of ours waits by itself."""
