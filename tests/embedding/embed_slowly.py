"""Embed a cohort in a process of its own, slowly enough to be killed in the middle."""

import sys
import time
from pathlib import Path

from tests.embedding.drawing import start, tiny_encoder

PAUSE_S = 0.03


def main() -> None:
    steps = iter(start(Path(sys.argv[1]), Path(sys.argv[2]), tiny_encoder()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in steps:
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
