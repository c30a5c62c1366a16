"""Images a second of each pre-training method, beside what its step alone could do.

    python -m benchmarks.pretrain_throughput COHORT [--methods simclr,swav,dino] [--steps 20]
        [--batch-size 512] [--image-size 144] [--local-size 64] [--workers -1] [--json FILE]

`run`: images from the cohort, views, step. `ceiling`: the same step on crops that lie on the device
already. `views`: making the crops in this process, without a step. An image is one source image,
however many crops are cut from it. `full recipe` projects the method's own epochs over the
cohort's images at the rate of `run`; measuring and saving are not in it.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tabulate import tabulate

from aml_mil.runtime import describe_device, resolve_device, resolve_precision
from aml_mil.ssl.batches import BatchPlan, ViewDataset, count_workers, view_loader
from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.method import RunLength
from aml_mil.ssl.methods import CONFIGS, build_method
from aml_mil.ssl.pool import ImagePool, find_sources, read_pool
from aml_mil.ssl.trainer import Trainer

WARM_UP_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method's rates, in source images a second."""

    method: str
    run: float
    ceiling: float
    views: float
    full_recipe_hours: float

    @property
    def share(self) -> float:
        """How much of the ceiling the run reaches."""
        return self.run / self.ceiling


def measure(
    name: str, pool: ImagePool, config: PretrainConfig, *, device: torch.device, steps: int
) -> Row:
    """Time one method.

    Args:
        name: Of the method.
        pool: Images; they are drawn again and again if they are few.
        config: Settings.
        device: Where the step runs.
        steps: Timed steps, after two untimed ones.
    """
    torch.manual_seed(0)
    needed = steps + WARM_UP_STEPS
    length = RunLength(epochs=needed, steps_per_epoch=len(pool) // config.batch_size)
    method = build_method(config, length, num_types=1)
    trainer = Trainer(method, device=device, precision=resolve_precision(config.precision, device))
    plan = BatchPlan(pool, batch_size=config.batch_size, epochs=needed, seed=0)
    dataset = ViewDataset(pool, method.views(), [0] * len(pool))
    loader = view_loader(dataset, plan, num_workers=count_workers(config.workers, device))
    batches = iter(loader)
    crops, targets = next(batches)
    counter = itertools.count()
    resident = [crop.to(device) for crop in crops]

    def run_step() -> None:
        fresh, numbers = next(batches)
        trainer.step(fresh, numbers, step=next(counter))

    def resident_step() -> None:
        trainer.step(resident, targets, step=next(counter))

    draws = itertools.chain.from_iterable(plan)
    run = config.batch_size / _seconds_a_call(run_step, steps, device)
    ceiling = config.batch_size / _seconds_a_call(resident_step, steps, device)
    views = 1 / _seconds_a_call(lambda: dataset[next(draws)], 64, torch.device("cpu"))
    hours = CONFIGS[name]().epochs * len(pool) / run / 3600
    return Row(method=name, run=run, ceiling=ceiling, views=views, full_recipe_hours=hours)


def _seconds_a_call(call: Callable[[], object], count: int, device: torch.device) -> float:
    for _ in range(WARM_UP_STEPS):
        call()
    _wait(device)
    began = time.perf_counter()
    for _ in range(count):
        call()
    _wait(device)
    return (time.perf_counter() - began) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--methods", default="simclr,swav,dino")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, help="read only the first so many")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--image-size", dest="image_size_px", type=int, default=144)
    parser.add_argument("--local-size", dest="local_size_px", type=int, default=64)
    parser.add_argument("--workers", type=int, default=-1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = resolve_device(options.device)
    sources = find_sources(options.cohort)[: options.images]
    pool = read_pool(sources, side_px=144, max_bytes=2**34)
    rows = []
    for name in options.methods.split(","):
        settings = {
            "batch_size": options.batch_size,
            "image_size_px": options.image_size_px,
            "workers": options.workers,
        }
        if name in ("swav", "dino"):
            settings["local_size_px"] = options.local_size_px
        config = CONFIGS[name](**settings)
        rows.append(measure(name, pool, config, device=device, steps=options.steps))
    headers = ["method", "run, img/s", "ceiling, img/s", "share", "views, img/s", "full recipe, h"]
    table = [
        [row.method, row.run, row.ceiling, row.share, row.views, row.full_recipe_hours]
        for row in rows
    ]
    print(f"{describe_device(device)}, batch {options.batch_size}, {options.image_size_px} px")
    print(tabulate(table, headers=headers, floatfmt=".3g"))
    if options.json:
        document = {
            "device": describe_device(device),
            "options": {key: str(value) for key, value in vars(options).items()},
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
