"""Where the stores of the contract lie; a backend says what is otherwise for it."""

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from stores import FeatureStore, create_store
from tests.stores.samples import make_manifest

MODEST = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class ContractPlace:
    suffix: ClassVar[str]

    def place(self, folder: Path, name: str) -> Path:
        """Where a store of a name lies below a folder."""
        return folder / f"{name}{self.suffix}"

    def folder(self, store: FeatureStore) -> Path:
        """The folder on the disk that a store fills."""
        return store.path

    def assert_nothing_is_staged(self, store: FeatureStore) -> None:
        assert not list((self.folder(store) / ".tmp").iterdir())

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return self.place(tmp_path, "cohort")

    @pytest.fixture
    def store(self, path: Path) -> FeatureStore:
        return create_store(path, make_manifest())

    def bag_path(self, store: FeatureStore, name: str = "AQK") -> Path:
        return self.folder(store) / "bags" / name
