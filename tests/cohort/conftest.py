"""Small cohorts on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cohort.pictures import encode, photograph


@pytest.fixture(scope="session")
def tiny_tif() -> bytes:
    return encode(photograph(16, 16), "TIFF")


@pytest.fixture
def mll(tmp_path: Path, tiny_tif: bytes) -> Callable[..., Path]:
    """Build a cohort in the MLL layout: files by patient folder, and the tables' text."""

    def build(files: Mapping[str, list[str]], tables: Mapping[str, str | bytes]) -> Path:
        root = tmp_path / "cohort"
        for folder, names in files.items():
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                path = root / "data" / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tiny_tif)
        root.mkdir(exist_ok=True)
        for name, text in tables.items():
            data = text.encode() if isinstance(text, str) else text
            (root / name).write_bytes(data)
        return root

    return build
