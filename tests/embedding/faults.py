"""Embedding runs that meet a fault at one call of the write path, each in a process of its own.

``python -m tests.embedding.faults COHORT`` reads a JSON list of faults from stdin, forks once per
fault, embeds in the child, and prints how each child ended.
"""

import json
import os
import sys
from pathlib import Path

from aml_mil.embedding import PatientsFailedError
from stores import files
from tests.embedding.drawing import run, tiny_encoder
from tests.stores.faults import FAILED, FaultyOs


def main() -> None:
    cohort_dir = Path(sys.argv[1])
    os.fsync = lambda descriptor: None  # what is written outlives a killed process without
    codes = []
    for fault in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            files.os = FaultyOs(at=fault["at"], kind=fault["kind"])  # type: ignore[assignment]
            try:
                # Not before the fork: a child waits for ever for its parent's OpenMP threads.
                run(cohort_dir, Path(fault["path"]), tiny_encoder(), workers=1)
            except (OSError, PatientsFailedError):  # the fault may meet the reading of an image
                os._exit(FAILED)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    json.dump(codes, sys.stdout)


if __name__ == "__main__":
    main()
