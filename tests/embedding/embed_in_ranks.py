"""Embed a cohort in several processes, one of which may be killed on the way.

``python -m tests.embedding.embed_in_ranks`` reads a list of runs from stdin, forks the processes of
each, and prints their exit codes: a negative one is the signal that ended the process.
"""

import json
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from aml_mil.embedding import EmbedError
from aml_mil.embedding.shares import BACKEND, PATIENCE
from aml_mil.ranks import rank
from tests.embedding.drawing import start, tiny_encoder
from tests.ports import free_port

LEFT_ALONE = 3
PATIENCE_S = 120.0


def embed_share(
    cohort: str, store: str, *, kill_at: int | None, after_s: float, **settings: object
) -> int:
    """Work as one of the processes; the first writes its summary beside the store."""
    dist.init_process_group(BACKEND, timeout=PATIENCE)
    run = start(Path(cohort), Path(store), tiny_encoder(), **settings)
    try:
        for number, _ in enumerate(run):
            if number == kill_at:
                time.sleep(after_s)  # its threads go on
                os.kill(os.getpid(), signal.SIGKILL)
    except EmbedError as error:
        Path(f"{store}.{rank()}.error").write_text(str(error))
        return LEFT_ALONE
    if rank() == 0:
        summary = run.summary
        found = {"patients": summary.patients_embedded, "cells": summary.cells_embedded}
        found |= {"skipped": summary.patients_skipped, "processes": summary.num_processes}
        Path(f"{store}.summary").write_text(json.dumps(found))
    dist.destroy_process_group()
    return 0


def fork_ranks(
    settings: dict[str, Any], *, num_ranks: int, victim: int | None, kill_at: int
) -> list[int]:
    """Fork the processes; gives their ids in the order of the ranks."""
    port = free_port()
    children = []
    for number in range(num_ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(number), "WORLD_SIZE": str(num_ranks)}
        code = 1
        try:
            code = embed_share(kill_at=kill_at if number == victim else None, **settings)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return children


def run_ranks(
    *,
    num_ranks: int,
    victim: int | None = None,
    kill_at: int = 0,
    after_s: float = 0.0,
    **settings: Any,
) -> list[int]:
    """Run the processes, and give their exit codes in the order of the ranks.

    Args:
        num_ranks: How many there are.
        victim: Which of them is killed on the way.
        kill_at: After how many steps.
        after_s: How much later, in seconds.
        settings: Of the run.
    """
    children = fork_ranks(
        {"after_s": after_s, **settings}, num_ranks=num_ranks, victim=victim, kill_at=kill_at
    )
    codes: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(codes) < num_ranks and time.monotonic() < deadline:
        time.sleep(0.02)
        codes |= reap(children, codes, os.WNOHANG)
    for child in set(children) - codes.keys():  # it does not notice that it is alone
        os.kill(child, signal.SIGTERM)
    codes |= reap(children, codes, 0)
    return [codes[child] for child in children]


def reap(children: list[int], codes: dict[int, int], flag: int) -> dict[int, int]:
    """Collect the exit codes of processes that have ended."""
    found = [os.waitpid(child, flag) for child in children if child not in codes]
    return {child: os.waitstatus_to_exitcode(status) for child, status in found if child}


def main() -> None:
    torch.set_num_threads(1)
    deque(map(str, tiny_encoder().module.parameters()), maxlen=0)  # imports before the forks
    json.dump([run_ranks(**run) for run in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
