"""Crafted AnnData files: nothing runs, nothing is written, nothing takes the memory."""

import gzip
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.interchange.hostile import SECRET, assert_refused


@pytest.fixture
def h5ad(tmp_path: Path) -> Path:
    anndata = pytest.importorskip("anndata")
    table = anndata.AnnData(np.ones((4, 3), np.float32))
    table.obs["patient_id"] = ["p", "p", "q", "q"]
    table.obs["label"] = ["x", "x", "y", "y"]
    (tmp_path / "in").mkdir()
    table.write_h5ad(tmp_path / "in" / "cells.h5ad")
    return tmp_path / "in" / "cells.h5ad"


def test_an_h5ad_with_a_link_into_another_file_is_refused(h5ad: Path) -> None:
    with h5py.File(h5ad.parent / "secret.h5", "w") as file:
        file["X"] = SECRET
    with h5py.File(h5ad, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("secret.h5", "/X")
    assert_refused("anndata", h5ad, "links are not followed")


def test_an_h5ad_whose_texts_are_one_text_a_million_times_is_refused(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        del file["obs/label"]
        made = file.create_dataset("obs/label", (2**16,), h5py.string_dtype(), chunks=(2**16,))
        made[0] = "x" * 2**18
        stored = made.id.read_direct_chunk((0,))[1]
        made.id.write_direct_chunk((0,), stored[:16] * 2**16)
    assert_refused("anndata", h5ad, "label would take")


def test_an_h5ad_whose_groups_go_round_or_whose_texts_are_a_table_is_refused(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        file["uns/texts"] = np.array([["a", "b"]], dtype=h5py.string_dtype())
    assert_refused("anndata", h5ad, "expected numbers or a list of texts")
    with h5py.File(h5ad, "r+") as file:
        del file["uns/texts"]
        file["uns/round"] = file["uns"]
    assert_refused("anndata", h5ad, "round stands in two places")


@pytest.fixture(params=[2, 3])
def cells_zarr(h5ad: Path, request: pytest.FixtureRequest) -> Path:
    anndata = pytest.importorskip("anndata")
    path = h5ad.with_suffix(".zarr")
    settings = {"zarr_write_format": request.param, "auto_shard_zarr_v3": False}
    known = {name: value for name, value in settings.items() if hasattr(anndata.settings, name)}
    with warnings.catch_warnings(), anndata.settings.override(**known):
        warnings.simplefilter("ignore")  # about the older format
        anndata.read_h5ad(h5ad).write_zarr(path)
    h5ad.unlink()
    return path


def change_array(path: Path, **changes: object) -> None:
    [document] = (path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    document.write_text(json.dumps({**json.loads(document.read_bytes()), **changes}))


def test_a_zarr_whose_codec_unpickles_is_refused_and_not_run(cells_zarr: Path) -> None:
    is_old = (cells_zarr / "X" / ".zarray").exists()
    evil = {"filters": [{"id": "pickle"}]} if is_old else {"codecs": [{"name": "numcodecs.pickle"}]}
    change_array(cells_zarr / "X", **evil)
    assert_refused("anndata", cells_zarr, "names the codec '(numcodecs.)?pickle', which is not run")


def _zstd_head(size: int | None) -> bytes:
    descriptor, told = (0xE0, size.to_bytes(8, "little")) if size is not None else (0, b"\x00")
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + told


@pytest.mark.parametrize(
    ("codec", "chunk", "message"),
    [
        ("gzip", gzip.compress(bytes(2**27)), "would take"),
        ("gzip", gzip.compress(b"x") * 2, "goes on after the end"),
        ("zstd", _zstd_head(2**40), "would take"),
        ("zstd", _zstd_head(None), "does not tell its size"),
        ("zstd", b"no frame", "is no Zstandard frame"),
        ("blosc", bytes(4) + b"\xff\xff\xff\x7f" + bytes(8), "would take"),
        ("blosc", b"cut", "is no blosc chunk"),
        ("lz4", b"\xff\xff\xff\x7f" + bytes(8), "would take"),
    ],
    ids=["bomb", "two streams", "claim", "no claim", "no frame", "blosc", "cut", "lz4"],
)
def test_a_zarr_whose_chunk_inflates_to_more_than_an_honest_one_is_refused(
    cells_zarr: Path, codec: str, chunk: bytes, message: str
) -> None:
    is_old = (cells_zarr / "X" / ".zarray").exists()
    named = {"compressor": {"id": codec}} if is_old else {"codecs": [{"name": codec}]}
    change_array(cells_zarr / "X", **named)
    place = cells_zarr / "X" / ("0.0" if is_old else "c/0/0")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(chunk)
    assert_refused("anndata", cells_zarr, message)


SHARDED = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [2, 3],
        "codecs": [{"name": "bytes"}, {"name": "zstd"}],
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
        "index_location": "end",
    },
}


@pytest.mark.parametrize(
    ("chunk", "place", "message"),
    [
        (_zstd_head(2**40), (0, 13), "would take"),
        (_zstd_head(24), (0, 999), "lies outside"),
        (b"", None, "shorter than its index"),
    ],
    ids=["claim", "outside", "cut"],
)
def test_a_zarr_whose_shard_holds_a_bomb_is_refused(
    cells_zarr: Path, chunk: bytes, place: tuple[int, int] | None, message: str
) -> None:
    if (cells_zarr / "X" / ".zarray").exists():
        pytest.skip("the older format knows no shards")
    grid = {"name": "regular", "configuration": {"chunk_shape": [4, 3]}}
    change_array(cells_zarr / "X", codecs=[SHARDED], chunk_grid=grid)
    missing = (2**64 - 1, 2**64 - 1)
    index = np.array([missing, place], "<u8").tobytes() + bytes(4) if place else b""
    shard = cells_zarr / "X" / "c" / "0" / "0"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(chunk + index)
    assert_refused("anndata", cells_zarr, message)


@pytest.mark.parametrize("shape", [[2**40, 3], [2**25, 3]])
def test_a_zarr_that_claims_what_it_has_not_is_refused(cells_zarr: Path, shape: list[int]) -> None:
    change_array(cells_zarr / "X", shape=shape)
    assert_refused("anndata", cells_zarr, "would take")


def test_a_zarr_with_links_to_elsewhere_is_refused(cells_zarr: Path) -> None:
    (cells_zarr / "X" / "linked").symlink_to("/dev/zero")
    assert_refused("anndata", cells_zarr, "is a link or no regular file")
