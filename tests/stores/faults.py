"""Faults at the n-th call of the write path, in processes of their own.

``python -m tests.stores.faults`` reads a JSON list of faults from stdin, forks once per fault,
writes a bag in the child, and prints how each child ended.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

WRITE_PATH_CALLS = ("mkdir", "open", "write", "fsync", "close", "rename", "link")
ERRNOS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
COMMITTED, REFUSED, FAILED = 0, 3, 4


class FaultyOs:
    """The ``os`` module, except that the call number ``at`` meets a fault.

    Kinds: ``kill`` before the call, ``kill-after`` it, ``torn`` (half of a write, then killed),
    ``ENOSPC`` and ``EIO`` (half of a write, then the error; the error for other calls).
    """

    def __init__(self, *, at: int | None, kind: str | None) -> None:
        self.at, self.kind = at, kind
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WRITE_PATH_CALLS:
            return real
        return lambda *args, **kwargs: self._call(name, real, *args, **kwargs)

    def _call(self, name: str, real: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(name)
        if len(self.calls) - 1 != self.at:
            return real(*args, **kwargs)
        if self.kind == "kill":
            die()
        if name == "write" and self.kind != "kill-after":
            real(args[0], args[1][: len(args[1]) // 2])
        elif name == "close" or self.kind not in ERRNOS:
            with suppress(OSError):
                real(*args, **kwargs)
        if self.kind in ERRNOS:
            raise OSError(ERRNOS[self.kind], f"injected at {name}")
        return die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sample_of(bag: str, manifest: Any) -> Any:
    """Make the bag that a faulty writer writes."""
    from tests.stores.samples import make_bag

    return make_bag(bag, manifest=manifest, seed=len(bag))


def write_under_fault(path: str, *, at: int, kind: str, bag: str, replace: bool) -> int:
    """Write one sample bag; return how it went."""
    from stores import BagExistsError, files, open_store

    store = open_store(path)
    sample = sample_of(bag, store.manifest)
    files.os = FaultyOs(at=at, kind=kind)  # type: ignore[assignment]
    try:
        (store.replace if replace else store.write)(sample)
    except BagExistsError:
        return REFUSED
    except OSError:
        return FAILED
    return COMMITTED


def remember_images() -> None:
    """Build the files of a sample bag once: faults are met while they are written, not built."""
    from stores.hdf5_layout import Hdf5Layout
    from stores.zarr_layout import ZarrLayout

    for kind in (Hdf5Layout, ZarrLayout):
        kind.build_image = remembering(kind.build_image)  # type: ignore[method-assign]


def remembering(build_image: Any) -> Any:
    """Keep what ``build_image`` returned for each content."""
    images: dict[Any, Any] = {}

    def build(self: Any, folder_name: str, arrays: Any) -> Any:
        content = [(n, v if isinstance(v, tuple) else v.tobytes()) for n, v in arrays.items()]
        key = (folder_name, *content)
        if key not in images:
            images[key] = build_image(self, folder_name, arrays)
        return images[key]

    return build


def run_faults(faults: Sequence[dict[str, Any]]) -> list[int]:
    """Run each fault in a child process.

    Args:
        faults: Keyword arguments of ``write_under_fault``.

    Returns:
        Exit codes; a negative one is the signal that ended the child.
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.faults"],
        input=json.dumps(list(faults)),
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    codes: list[int] = json.loads(done.stdout)
    return codes


def main() -> None:
    from stores import open_store
    from stores.admission import admit
    from stores.names import encode_bag_id

    os.fsync = lambda descriptor: None  # what is written outlives a killed process without
    faults = json.load(sys.stdin)
    remember_images()
    for path, bag in {(fault["path"], fault["bag"]) for fault in faults[:1]}:
        store = open_store(path)  # once, before the forks
        store.layout.build_image(
            encode_bag_id(bag), admit(sample_of(bag, store.manifest), store.manifest)
        )
    codes = []
    for fault in faults:
        child = os.fork()
        if child == 0:
            os._exit(write_under_fault(**fault))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    json.dump(codes, sys.stdout)


if __name__ == "__main__":
    main()
