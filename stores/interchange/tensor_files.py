"""What an importer needs of a library of tensors; this package itself knows none."""

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from stores.interchange.source import FeatureSpec


class TensorFiles(Protocol):
    """Reads and writes ``.pt`` files of one tensor, never running what is pickled in them."""

    def describe(self, path: Path) -> FeatureSpec:
        """Read size and type of a tensor ``(N, D…)``."""

    def load(self, path: Path) -> NDArray[Any]:
        """Read a tensor; ``bfloat16`` comes as ``float32``."""

    def save(self, path: Path, values: NDArray[Any]) -> None:
        """Write a tensor."""
