"""Join the processes that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from aml_mil.runtime import resolve_device


def is_launched_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined_processes(
    device: str, *, backend: str | None = None, timeout: timedelta | None = None
) -> Iterator[torch.device]:
    """Join the other processes of torchrun, if there are any, and leave them at the end.

    Args:
        device: As `resolve_device` takes it; ``auto`` and ``cuda`` become this process's GPU.
        backend: Of torch.distributed; without it nccl on CUDA, else gloo.
        timeout: How long a process waits for another; the backend's own where not given.

    Yields:
        The device of this process.
    """
    if not is_launched_by_torchrun():
        yield resolve_device(device)
        return
    own = resolve_device(device)
    if own.type == "cuda":
        own = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(own)
    dist.init_process_group(backend or ("nccl" if own.type == "cuda" else "gloo"), timeout=timeout)
    try:
        yield own
    finally:
        dist.destroy_process_group()
