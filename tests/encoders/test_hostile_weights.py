"""Crafted weights: nothing runs, nothing is written, nothing takes the memory."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aml_mil.encoders import WeightsError
from aml_mil.encoders.checkpoint import read_info
from aml_mil.encoders.weights import read_weights
from tests.limits import little_memory, names_below


def safetensors_file(header: object, data: bytes = b"", *, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def tensor(*shape: int, end: int, start: int = 0) -> dict[str, dict[str, object]]:
    return {"a": {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}}


CRAFTED = {
    "a header of 2^63 bytes": safetensors_file(b"{}", size=2**63),
    "a header longer than the file": safetensors_file(b"{}", size=2**30),
    "a header that is no JSON": safetensors_file(b"{'a': 1}"),
    "a deep header": safetensors_file(b'{"a":' * 100_000),
    "a tensor of terabytes": safetensors_file(tensor(2**40, end=2**42)),
    "a tensor beyond the end": safetensors_file(tensor(4, end=16), bytes(8)),
    "a tensor larger than its bytes": safetensors_file(tensor(2**20, end=16), bytes(16)),
    "a shape that overflows": safetensors_file(tensor(2**62, 2**62, 2**4, end=16), bytes(16)),
    "offsets that run backwards": safetensors_file(tensor(4, start=16, end=0), bytes(16)),
    "an unknown dtype": safetensors_file(
        {"a": {"dtype": "OBJ", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)
    ),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_safetensors_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CRAFTED[name])
    for read in (read_weights, read_info):
        with little_memory(), pytest.raises(WeightsError, match="not a whole safetensors file"):
            read(path)
    assert names_below(tmp_path) == {"a.safetensors"}


def test_a_safetensors_file_of_holes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    os.truncate(path, 2**40)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        read_weights(path)


class RunsCode:
    """Would leave a file behind if its pickle were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("is_new", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_leaves_no_trace(tmp_path: Path, is_new: bool) -> None:
    content = {"a": torch.ones(4), "b": RunsCode(tmp_path / "was run")}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=is_new)
    with little_memory(), pytest.raises(WeightsError, match="could run code"):
        read_weights(tmp_path / "a.pt")
    assert names_below(tmp_path) == {"a.pt"}


def test_a_tensor_spread_by_strides_of_0_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(2**40)}, tmp_path / "a.pt")
    with little_memory(), pytest.raises(WeightsError, match=f"a claims {2**42} bytes.* holds 4"):
        read_weights(tmp_path / "a.pt")


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2, 2).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="expected a dense tensor"):
        read_weights(tmp_path / "a.pt")


def test_a_pt_file_whose_parts_inflate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        archive.writestr("a/data/1", bytes(2**26))
    with little_memory(), pytest.raises(WeightsError, match="its parts claim"):
        read_weights(path)
