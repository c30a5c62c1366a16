"""A command that gets a signal at a place of its own code, not at a time.

``python -m tests.signalled FUNCTION CALLS SIGNAL SECONDS WORD...`` runs ``aml-mil WORD...`` and
sends its process group the signal, a number, when a function (``package.module.name``) has returned
for the CALLS-th time; a fit writes how far it is every SECONDS.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from aml_mil.mil import program
from cli.main import main


def run_until(
    function: str, *, calls: int, signal: int, words: list[object], checkpoint_every_s: float = 0
) -> tuple[int, str]:
    """Run a command until the signal; give its exit code and what it said."""
    told = (function, calls, int(signal), checkpoint_every_s, *words)
    done = subprocess.run(
        [sys.executable, "-m", "tests.signalled", *map(str, told)],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        start_new_session=True,
    )
    return done.returncode, done.stderr


def send_after(function: str, *, calls: int, signal: int) -> None:
    """Have a function of a module send the signal once it has been called so often."""
    module_name, _, name = function.rpartition(".")
    module = importlib.import_module(module_name)
    original, left = getattr(module, name), calls

    def and_send(*args: object, **settings: object) -> object:
        nonlocal left
        value = original(*args, **settings)
        left -= 1
        if left == 0:
            os.killpg(0, signal)
        return value

    setattr(module, name, and_send)


if __name__ == "__main__":
    program.CHECKPOINT_EVERY_S = float(sys.argv[4])
    send_after(sys.argv[1], calls=int(sys.argv[2]), signal=int(sys.argv[3]))
    sys.exit(main(sys.argv[5:]))
