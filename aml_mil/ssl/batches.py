"""Which images make which batch: pure functions of seed, epoch and step, so that a run resumes.

Shapes: N images, B images of a batch over all processes.
"""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aml_mil.ranks import num_ranks, rank
from aml_mil.runtime import count_cores, count_own_cores
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.views import Views

Draw = tuple[int, int, int]  # epoch, image, and how often it was drawn before in that epoch


def shuffled_order(num_images: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw an epoch's order, every image once."""
    return np.random.default_rng((seed, epoch)).permutation(num_images)


def balanced_order(types: Sequence[str], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw an epoch's images with replacement, every type equally often in expectation."""
    names, inverse, counts = np.unique(types, return_inverse=True, return_counts=True)
    chances = 1 / (len(names) * counts[inverse])
    return np.random.default_rng((seed, epoch)).choice(len(types), size=len(types), p=chances)


def count_earlier(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for each draw of an epoch how often the same image was drawn before."""
    places = np.argsort(order, kind="stable")
    drawn = order[places]
    earlier = np.empty_like(order)
    earlier[places] = np.arange(len(order)) - np.searchsorted(drawn, drawn)
    return earlier


class BatchPlan:
    """The batches of this process from a step of the run to its end.

    The images that do not fill a last batch are left out of that epoch; the next one draws anew.

    Args:
        pool: Images.
        batch_size: B, a multiple of the number of processes, at most N.
        epochs: Of the run.
        seed: Of the orders.
        is_balanced: Draw every cell type equally often.
        first_step: Steps done already.
    """

    def __init__(
        self,
        pool: ImagePool,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        is_balanced: bool = False,
        first_step: int = 0,
    ) -> None:
        self.types = [source.cell_type for source in pool.sources]
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.is_balanced = is_balanced
        self.first_step = first_step
        self.steps_per_epoch = len(pool) // batch_size

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        first_epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        share = self.batch_size // num_ranks()
        for epoch in range(first_epoch, self.epochs):
            order = self._order(epoch)
            earlier = count_earlier(order)
            for step in range(skipped if epoch == first_epoch else 0, self.steps_per_epoch):
                start = step * self.batch_size + rank() * share
                places = range(start, start + share)
                yield [(epoch, int(order[i]), int(earlier[i])) for i in places]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self.is_balanced:
            return balanced_order(self.types, seed=self.seed, epoch=epoch)
        return shuffled_order(len(self.types), seed=self.seed, epoch=epoch)


class ViewDataset(Dataset[tuple[list[Tensor], int]]):
    """Views of the images of a pool, by draw."""

    def __init__(self, pool: ImagePool, views: Views, targets: Sequence[int]) -> None:
        self.pool = pool
        self.views = views
        self.targets = targets

    def __getitem__(self, draw: Draw) -> tuple[list[Tensor], int]:
        epoch, image, earlier = draw
        crops = self.views(self.pool.image(image), epoch=epoch, cell=image, earlier=earlier)
        return [torch.from_numpy(np.ascontiguousarray(c)) for c in crops], self.targets[image]


def view_loader(dataset: ViewDataset, plan: BatchPlan, *, num_workers: int) -> DataLoader[Any]:
    """Make the crops of a plan's batches in worker processes.

    Args:
        dataset: Views by draw.
        plan: Draws of each batch.
        num_workers: 0 for this process itself.

    Returns:
        Batches in the plan's order: a list of [B, s, s, 3] uint8 crops, and targets [B].
    """
    return DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=num_workers,
        worker_init_fn=_init_worker,
        pin_memory=torch.cuda.is_available(),
    )


def count_workers(workers: int, device: torch.device) -> int:
    """Resolve how many processes make views: -1 is all cores for a GPU, one beside a CPU's step."""
    if workers >= 0:
        return workers
    return count_own_cores() if device.type == "cuda" else min(count_cores() - 1, 1)


def _init_worker(_: int) -> None:
    # A scheduler signals the whole group; the run must still get the batch it waits for.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
