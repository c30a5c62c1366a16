"""Processes that read and decode cell files, for machines whose cores threads cannot fill.

Threads take turns at the interpreter: some 6,000 cells a second, however many they are.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from aml_mil.cohort import CellFile
from aml_mil.cohort.reader import map_images
from aml_mil.embedding.errors import EmbedError

IS_POSSIBLE = os.name == "posix"  # elsewhere a process cannot be handed an open file
READER = "aml_mil.cohort.reader"


class Readers:
    """Processes with a memory for images that all of them share with this one.

    It has no name and goes with the last of them, whatever ends them; they end with this one.

    Args:
        num_readers: Processes.
        slots: Parts of the memory.
        cells: Images of a part.
        image_size_px: Side of an image.
    """

    def __init__(self, num_readers: int, *, slots: int, cells: int, image_size_px: int) -> None:
        shape = (slots, cells, image_size_px)
        with _anonymous_file(slots * cells * image_size_px**2 * 3) as descriptor:
            self._images = map_images(descriptor, shape)
            self._readers = [_start(descriptor, shape) for _ in range(num_readers)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for reader in self._readers:
            self._idle.put(reader)

    def read(self, slot: int, paths: Sequence[Path]) -> list[CellFile]:
        """Let the next idle process read files; several threads may ask at once.

        Args:
            slot: Where their images go, which nobody else may use until they are done with.
            paths: At most as many as a slot has room for.

        Returns:
            What became of each; its image lies in the slot.

        Raises:
            EmbedError: The process has ended.
        """
        reader = self._idle.get()
        assert reader.stdin is not None
        assert reader.stdout is not None
        try:
            reader.stdin.write(json.dumps([slot, [str(path) for path in paths]]).encode() + b"\n")
            reader.stdin.flush()
            answer = reader.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            self._idle.put(reader)
        if not answer.endswith(b"\n"):
            message = (
                f"a process that reads images has ended (exit code {reader.wait()}): perhaps for "
                "want of memory; run the same command again, it goes on, with fewer --workers"
            )
            raise EmbedError(message)
        return [
            CellFile(
                sha256=found["sha256"],
                image=None if found["colour"] is None else self._images[slot, place],
                colour=None
                if found["colour"] is None
                else np.array(found["colour"], dtype=np.float32),
                damage=found["damage"],
                io_error=found["io_error"],
            )
            for place, found in enumerate(json.loads(answer))
        ]

    def __enter__(self) -> "Readers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes."""
        for reader in self._readers:
            reader.kill()
        for reader in self._readers:
            reader.communicate()


@contextmanager
def _anonymous_file(num_bytes: int) -> Iterator[int]:
    """Open memory that can be handed on like a file; a real one where there is no such thing."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("cells")
    else:
        descriptor, path = tempfile.mkstemp()
        Path(path).unlink()
    try:
        os.ftruncate(descriptor, num_bytes)
        yield descriptor
    finally:
        os.close(descriptor)


def _start(descriptor: int, shape: tuple[int, int, int]) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", READER, str(descriptor), *map(str, shape)]
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(descriptor,),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
