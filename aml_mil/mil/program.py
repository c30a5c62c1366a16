"""Runs that train together: one stack of heads, one checkpoint, a folder for each."""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from aml_mil.mil.checkpoint import read_checkpoint, write_checkpoint
from aml_mil.mil.config import Precision
from aml_mil.mil.engine import EpochRecord, Replicate, ResidentBags, TrainedHead, Training
from aml_mil.mil.outcome import write_run
from aml_mil.mil.plan import FitPlan
from aml_mil.mil.results import apply_heads
from aml_mil.mil.run_dir import run_key
from aml_mil.runtime import resolve_device

TABLE_DTYPES: Mapping[Precision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
CHECKPOINT_EVERY_S = 30.0
MAX_PROBABILITY_GAP = 0.01
"""Between 16 bits and fp32, the same heads."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Runs that train together.

    Attributes:
        plans: One per run.
        paths: Folder of each.
        checkpoint_path: Where it is written how far they are.
    """

    plans: Sequence[FitPlan]
    paths: Sequence[Path]
    checkpoint_path: Path

    def replicates(self) -> list[Replicate]:
        """Return the heads of all runs."""
        first_stores = accumulate((len(p.inputs.stores) for p in self.plans), initial=0)
        return [
            replicate
            for run, (plan, first) in enumerate(zip(self.plans, first_stores, strict=False))
            for replicate in plan.replicates(run=run, first_store=first)
        ]

    def bags(self, precision: Precision) -> ResidentBags:
        """Return the features of all runs, in the number format of the large products."""
        plan = self.plans[0]
        return ResidentBags(
            [s.bags.features for p in self.plans for s in p.inputs.stores],
            offsets=plan.inputs.offsets,
            targets=plan.inputs.targets,
            dtype=TABLE_DTYPES[precision],
            device=resolve_device(plan.config.device),
            one_view_a_bag=plan.inputs.one_view_a_bag,
        )


def train(program: Program) -> Generator[EpochRecord | float]:
    """Train runs together to their end, and write their folders.

    Every half a minute, and where the iteration is given up between two epochs, it is written how
    far they have come.

    Yields:
        One record per replicate and epoch, those of an interrupted fit first, then the seconds
        that training and validation took.
    """
    plan, replicates = program.plans[0], program.replicates()
    bags = program.bags(plan.config.precision)
    runs = zip(program.paths, program.plans, strict=True)
    keys = [run_key(path, p.to_json()) for path, p in runs]
    earlier = read_checkpoint(program.checkpoint_path, keys=keys, replicates=replicates)
    history = list(earlier.history) if earlier else []
    start = time.perf_counter()
    training = Training(
        replicates,
        bags,
        shape=plan.shape,
        config=plan.config,
        states=earlier.states if earlier else None,
    )
    if training.epoch:
        logger.info("going on from epoch %d of an interrupted run", training.epoch)

    def write() -> None:
        write_checkpoint(
            program.checkpoint_path,
            keys=keys,
            replicates=replicates,
            states=training.states(),
            history=history,
        )

    yield from history
    written = time.perf_counter()
    while training.is_running:
        records = training.run_epoch()
        history += records
        if training.is_running and time.perf_counter() - written >= CHECKPOINT_EVERY_S:
            write()
            written = time.perf_counter()
        try:
            yield from records
        except GeneratorExit:
            write()
            raise
    train_s = time.perf_counter() - start
    write()  # what follows may find the disk or the memory full
    _warn_of_diverged(training.heads)
    _write_runs(program, bags, heads=training.heads, history=history)
    program.checkpoint_path.unlink(missing_ok=True)
    yield train_s


def _write_runs(
    program: Program,
    bags: ResidentBags,
    *,
    heads: Sequence[TrainedHead],
    history: Sequence[EpochRecord],
) -> None:
    """Apply the heads and write the folders of all runs."""
    reference = program.bags("fp32") if bags.table.dtype.itemsize == 2 else None
    for run, (plan, path) in enumerate(zip(program.plans, program.paths, strict=True)):
        own = [h for h in heads if h.replicate.run == run]
        results = apply_heads(own, bags, shape=plan.shape, inputs=plan.inputs, roles=plan.roles)
        gap = None
        if reference is not None:
            exact = apply_heads(
                own, reference, shape=plan.shape, inputs=plan.inputs, roles=plan.roles
            )
            ours, theirs = results.predictions.probabilities, exact.predictions.probabilities
            gap = float(np.abs(ours - theirs).max())
            if gap > MAX_PROBABILITY_GAP:
                logger.warning(
                    "%s: probabilities in %s are up to %.3f from those in fp32; features whose "
                    "mean is many times their s.d. lose too much in 16 bits: use --precision fp32",
                    path,
                    plan.config.precision,
                    gap,
                )
        own_history = [r for r in history if r.run == run]
        write_run(plan, path, history=own_history, heads=own, results=results, probability_gap=gap)


def _warn_of_diverged(heads: Sequence[TrainedHead]) -> None:
    diverged = [h for h in heads if h.has_diverged]
    for head in diverged:
        logger.warning(
            "fold %d, seed %d diverged in epoch %d; its best epoch, %d, is kept",
            head.replicate.fold,
            head.replicate.seed,
            head.last_epoch,
            head.best_epoch,
        )
    if diverged:
        logger.warning(
            "%d of %d heads diverged: lower the learning rate (--lr) or use --standardize",
            len(diverged),
            len(heads),
        )
