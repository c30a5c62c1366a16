"""The command line run inside the tests' own process."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cli.main import main


class Outcome(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


RunCommand = Callable[..., Outcome]


def runner(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that runs the command line on its words."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run
