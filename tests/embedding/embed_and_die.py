"""Embed a cohort in a process of its own, which is killed on the way.

``python -m tests.embedding.embed_and_die COHORT STORE STEPS SECONDS``: killed after how many steps,
and how much later.
"""

import os
import signal
import sys
import time
from pathlib import Path

from tests.embedding.drawing import start, tiny_encoder


def main() -> None:
    cohort, store, steps, after_s = sys.argv[1:]
    for number, _ in enumerate(start(Path(cohort), Path(store), tiny_encoder())):
        if number == int(steps):
            time.sleep(float(after_s))  # its threads go on
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
