"""Steps of a study: commands that run one after the other, each once, and continue when killed.

    STUDY/steps.json     what each step was, took and came to, on which hardware
    STUDY/logs/NAME.log  what it printed

A step is skipped if it succeeded earlier by the same command and all its outputs are there. Else
its command runs; the commands continue by themselves what was interrupted.
"""

import fcntl
import json
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from stores.files import durable_write

STEPS_FILE = "steps.json"
LOGS_DIR = "logs"
LOCK_FILE = ".lock"
HEARTBEAT_S = 10.0
LAST_LINES = 12


class StudyError(Exception):
    """A study cannot go on; the message says why and what to do."""


class StudyStopped(StudyError):
    """A signal ended a study; the same command continues it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        name: Of its log and of its record.
        words: What follows the interpreter.
        outputs: There when it is done; a step without any runs each time.
        state: What an interrupted run leaves behind; if it is there, ``--resume`` is added.
    """

    name: str
    words: tuple[str, ...]
    outputs: tuple[Path, ...] = ()
    state: Path | None = None

    @property
    def command(self) -> str:
        """The command as typed into a shell."""
        return shlex.join(("python", *self.words))

    @property
    def resume_words(self) -> tuple[str, ...]:
        """``--resume``, if there is something to go on from."""
        return ("--resume",) if self.state is not None and self.state.exists() else ()


class StepRunner:
    """Runs steps in a folder that no other study uses at the same time.

    Args:
        folder: Of the study; made if missing.
        count: Steps to come, for the progress.
    """

    def __init__(self, folder: Path, *, count: int) -> None:
        (folder / LOGS_DIR).mkdir(parents=True, exist_ok=True)
        self._folder, self._count, self._place = folder, count, 0
        self._records = read_records(folder)
        self._hardware = describe_hardware()
        self._signals: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def run_all(self, steps: Iterable[Step]) -> None:
        """Run what is not done yet; each step is asked for when all before it are done.

        Raises:
            StudyError: A step failed, was made by another command, or a signal came.
        """
        with self._signals_forwarded(), locked(self._folder) as lock:
            for step in steps:
                self._place += 1
                self._run(step, lock)

    def _run(self, step: Step, lock: IO[bytes]) -> None:
        where = f"[{self._place}/{self._count}] {step.name}"
        record = self._records.setdefault(step.name, {"seconds": 0.0, "cpu_s": 0.0, "attempts": 0})
        if self._is_done(step, record):
            print(f"{where}: done already", flush=True)
            return
        print(f"{where}: {step.command}", flush=True)
        seconds, cpu_s = record["seconds"], record["cpu_s"]
        record |= {"command": step.command, "rc": None, "hardware": self._hardware}
        record["attempts"] += 1
        start, cpu_start = time.monotonic(), _children_cpu_s()
        for code in self._follow(step, lock):
            record["seconds"] = round(seconds + time.monotonic() - start, 3)
            record["cpu_s"] = round(cpu_s + _children_cpu_s() - cpu_start, 3)
            record["rc"] = code
            self._write()
        if self._signals:
            raise StudyStopped(f"stopped in step {step.name}; the same command continues")
        self._check(step, record)
        print(f"{where}: {record['seconds']:.0f} s", flush=True)

    def _is_done(self, step: Step, record: Mapping[str, Any]) -> bool:
        is_made = record.get("rc") == 0 and all(path.exists() for path in step.outputs)
        if not step.outputs or not is_made:
            return False
        if record["command"] != step.command:
            raise StudyError(
                f"step {step.name} was done by another command:\n  {record['command']}\nnow asked "
                f"for:\n  {step.command}\nchoose another --out, or take away "
                f"{', '.join(map(str, step.outputs))} and all that was made from it"
            )
        return True

    def _follow(self, step: Step, lock: IO[bytes]) -> Iterator[int | None]:
        """Start a step; yield None while it runs, and last its exit code."""
        for output in step.outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, *step.words, *step.resume_words]
        with (self._folder / LOGS_DIR / f"{step.name}.log").open("ab") as log:
            log.write(f"$ {shlex.join(words)}\n".encode())
            log.flush()
            # The lock goes along, so that it holds while the step of a killed study still runs.
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
            self._process = process
            if self._signals:
                process.send_signal(signal.SIGINT)
            while True:
                yield None
                try:
                    code = process.wait(HEARTBEAT_S)
                except subprocess.TimeoutExpired:
                    continue
                self._process = None
                yield code
                return

    def _check(self, step: Step, record: Mapping[str, Any]) -> None:
        log = self._folder / LOGS_DIR / f"{step.name}.log"
        if record["rc"] != 0:
            raise StudyError(
                f"step {step.name} failed with exit code {record['rc']}; its last lines:\n"
                f"{last_lines(log)}\nall of it: {log}"
            )
        if missing := [path for path in step.outputs if not path.exists()]:
            raise StudyError(
                f"step {step.name} ended without {', '.join(map(str, missing))}; see {log}"
            )

    def _write(self) -> None:
        text = json.dumps(self._records, indent=2) + "\n"
        durable_write(self._folder / STEPS_FILE, text.encode())

    @contextmanager
    def _signals_forwarded(self) -> Iterator[None]:
        """Let the first signal interrupt the step, which saves its state; a second one kills it."""

        def take(number: int, _: FrameType | None) -> None:
            self._signals.append(number)
            if self._process is not None:
                again = len(self._signals) > 1
                self._process.send_signal(signal.SIGKILL if again else signal.SIGINT)

        before = {n: signal.signal(n, take) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """Keep other studies out of a folder.

    Raises:
        StudyError: Another study runs there, or a step of one that was killed.
    """
    with (folder / LOCK_FILE).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                f"another study runs in {folder}, or the last step of one that was killed; wait "
                "until it has ended, or end it, and run the same command again"
            ) from error
        yield lock


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is known about each step, by name, in the order they were run."""
    path = folder / STEPS_FILE
    records: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return records


def describe_hardware() -> str:
    """Name processor, cores, accelerator and torch."""
    import torch

    from aml_mil.runtime import count_cores, describe_device

    cores = count_cores()
    names = [f"{describe_device(torch.device('cpu'))}, {cores} core{'s' * (cores > 1)}"]
    if torch.cuda.is_available():
        names.append(describe_device(torch.device("cuda")))
    return "; ".join([*names, f"torch {torch.__version__}"])


def last_lines(path: Path) -> str:
    """Return the end of a log, with progress bars as they were last seen."""
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
    return "\n".join(f"  {line.rpartition(chr(13))[2]}" for line in lines[-LAST_LINES:])


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
