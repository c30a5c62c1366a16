"""What a disk may hold after a loss of power: a model of files and folders with lost syncs.

The write path runs for real while its calls are recorded; the calls up to a moment are then
replayed on a model that knows, for each file and folder, what was synced and what was not.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = ("mkdir", "open", "write", "fsync", "close", "rename", "link")
POLICIES = ("nothing unsynced", "names only", "torn", "data only", "random")


class FileNode:
    def __init__(self, data: bytes = b"") -> None:
        self.data, self.synced = data, data


class FolderNode:
    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.synced: dict[str, Any] = {}


class RecordingOs:
    """The ``os`` module, keeping a journal of what the write path does."""

    def __init__(self) -> None:
        self.journal: list[tuple[str, tuple[Any, ...], Any]] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in RECORDED:
            return real

        def call(*args: Any) -> Any:
            result = real(*args)
            kept = tuple(bytes(arg) if isinstance(arg, memoryview) else arg for arg in args)
            self.journal.append((name, kept, result))
            return result

        return call


class Disk:
    """A model of the folder that holds a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = self._load(root)
        self.open_files: dict[int, Any] = {}

    def _load(self, path: Path) -> Any:
        if path.is_file():
            return FileNode(path.read_bytes())
        node = FolderNode()
        node.names = {entry.name: self._load(entry) for entry in path.iterdir()}
        node.synced = dict(node.names)
        return node

    def _find(self, path: os.PathLike[str]) -> Any:
        node = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = node.names[part]
        return node

    def apply(self, call: str, args: tuple[Any, ...], result: Any) -> None:
        if call == "mkdir":
            self._find(args[0].parent).names[args[0].name] = FolderNode()
        elif call == "open":
            self._open(args[0], args[1], result)
        elif call == "write":
            self.open_files[args[0]].data += args[1][:result]
        elif call == "fsync":
            node = self.open_files[args[0]]
            node.synced = node.data if isinstance(node, FileNode) else dict(node.names)
        elif call == "rename":
            node = self._find(args[0].parent).names.pop(args[0].name)
            self._find(args[1].parent).names[args[1].name] = node
        elif call == "link":
            self._find(args[1].parent).names[args[1].name] = self._find(args[0])

    def _open(self, path: Path, flags: int, descriptor: int) -> None:
        names = self._find(path.parent).names if path != self.root else {}
        if flags & os.O_CREAT and path.name not in names:
            names[path.name] = FileNode()
        self.open_files[descriptor] = self._find(path)

    def materialise(self, target: Path, policy: str, rng: np.random.Generator) -> None:
        """Write down what could be found after the power is back."""

        def either(unsynced: bool) -> bool:
            return bool(rng.integers(2)) if policy == "random" else unsynced

        self._write(self.top, target, either, policy)

    def _write(self, node: Any, target: Path, either: Callable[[bool], bool], policy: str) -> None:
        if isinstance(node, FileNode):
            keep = either(policy in ("data only",))
            half = node.data[: len(node.data) // 2] if node.data != node.synced else node.data
            target.write_bytes(half if policy == "torn" else node.data if keep else node.synced)
            return
        target.mkdir()
        for name in sorted(node.names.keys() | node.synced.keys()):
            new, old = node.names.get(name), node.synced.get(name)
            chosen = new if either(policy in ("names only", "torn")) else old
            if chosen is not None:
                self._write(chosen, target / name, either, policy)
