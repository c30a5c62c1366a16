"""A roof over the memory of this process, for inputs that want to take it all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20


@contextmanager
def little_memory(extra_mib: int = 256) -> Iterator[None]:
    """Let the process map no more than so much beyond what it has: who asks for more gets none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def names_below(folder: Path) -> set[str]:
    """List everything below a folder, to see that nothing was written."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
