"""Crafted files of neighbours: nothing runs, nothing is written, nothing takes the memory."""

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.lib import format as npy_format

from tests.interchange.hostile import CHUNK, SECRET, RunsCode, assert_refused
from tests.interchange.layouts import bring_in, features, write_table


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of one bag with its label; the tests put the crafted file beside it."""
    path = tmp_path / "source"
    path.mkdir()
    np.save(path / "a.npy", features(2))
    write_table(path / "labels.csv", ("bag_id", "label"), ("a", "x"), ("b", "y"))
    return path


# HDF5


def external_link(file: h5py.File) -> None:
    file["features"] = h5py.ExternalLink("../secret.h5", "/features")


def soft_link(file: h5py.File) -> None:
    file["other"] = SECRET
    file["features"] = h5py.SoftLink("/other")


def external_data(file: h5py.File) -> None:
    file.create_dataset("features", (5, 8), "f4", external=[("/etc/passwd", 0, 160)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((5, 8), "f4")
    layout[:] = h5py.VirtualSource("../secret.h5", "features", shape=(5, 8))
    file.create_virtual_dataset("features", layout)


def huge(file: h5py.File) -> None:
    file.create_dataset("features", (2**40, 8), "f4", chunks=(64, 8))


def empty_but_large(file: h5py.File) -> None:
    file.create_dataset("features", (2**24, 8), "f4", chunks=(2**16, 8))


def large_chunk(file: h5py.File) -> None:
    file.create_dataset("features", (5, 8), "f4", maxshape=(None, 8), chunks=(2**26, 8))


def stream_without_end(file: h5py.File) -> None:
    """HDF5 would inflate all of the stream, whatever the size of the chunk."""
    made = file.create_dataset("features", (5, 8), "f4", chunks=(5, 8), compression=9)
    packer = zlib.compressobj(1)
    made.id.write_direct_chunk((0, 0), b"".join(packer.compress(CHUNK) for _ in range(300)))


def foreign_filter(file: h5py.File) -> None:
    file.create_dataset("features", data=SECRET, chunks=(5, 8), compression="lzf")


def texts(file: h5py.File) -> None:
    file.create_dataset("features", (5, 8), h5py.string_dtype(), chunks=(5, 8))


def huge_attribute(file: h5py.File) -> None:
    file["features"] = SECRET
    file["features"].attrs["note"] = ["x" * 100] * 4


def huge_places(file: h5py.File) -> None:
    file["features"] = SECRET
    file.create_dataset("coords", (5, 2), "i8", maxshape=(None, 2), chunks=(2**27, 2))


CRAFTED_H5 = [
    (external_link, "links are not followed"),
    (soft_link, "links are not followed"),
    (external_data, "lie in other files"),
    (virtual, "lie in other files"),
    (huge, r"would take \d+ bytes .* at most 67108864 are read"),
    (empty_but_large, "would take"),
    (large_chunk, "a chunk of features would take"),
    (stream_without_end, "does not end after the 160 bytes of a chunk"),
    (foreign_filter, "expected shuffle, gzip, Fletcher-32"),
    (texts, "expected numbers"),
    (huge_attribute, "attribute note is a list of texts"),
    (huge_places, "a chunk of coords would take"),
]


@pytest.mark.parametrize(("make", "message"), CRAFTED_H5)
def test_a_crafted_h5_is_refused(
    tmp_path: Path, make: Callable[[h5py.File], None], message: str
) -> None:
    (tmp_path / "FEAT" / "h5_files").mkdir(parents=True)
    with h5py.File(tmp_path / "FEAT" / "secret.h5", "w") as file:
        file["features"] = SECRET
    write_table(tmp_path / "FEAT" / "t.csv", ("case_id", "slide_id", "label"), ("c", "s", "x"))
    with h5py.File(tmp_path / "FEAT" / "h5_files" / "s.h5", "w") as file:
        make(file)
    assert_refused("clam", tmp_path / "FEAT", message)


@pytest.mark.parametrize("options", [{}, {"compression": 9}, {"compression": 1, "shuffle": True}])
def test_honest_compression_is_read(source: Path, options: dict[str, object]) -> None:
    values = features(400)
    with h5py.File(source / "b.h5", "w") as file:
        file.create_dataset("features", data=values, fletcher32=True, chunks=(64, 3), **options)
    assert bring_in("bags", source, source.parent / "out.zarr") == []


# NumPy


def npy(shape: tuple[int, ...], *, dtype: str = "<f4", data: bytes = b"") -> bytes:
    """The bytes of an .npy file that announces one thing and holds another."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header = text.ljust(117).encode() + b"\n"
    return npy_format.magic(1, 0) + len(header).to_bytes(2, "little") + header + data


LONG_HEADER = npy_format.magic(2, 0) + (2**31).to_bytes(4, "little")
CRAFTED_NPY = [
    (npy((2**40, 8)), "announces .* and has 0"),
    (npy((2**62, 2**62)), "announces"),
    (npy((2**40,), dtype="<U0"), "expected numbers"),
    (npy((-1, 8)), "expected numbers"),
    (npy((5, 8), dtype="|O", data=bytes(400)), "pickled Python objects"),
    (LONG_HEADER, "header is longer than 65536"),
    (b"PK\x03\x04", "magic string"),
]


@pytest.mark.parametrize(("data", "message"), CRAFTED_NPY)
def test_a_crafted_npy_is_refused(source: Path, data: bytes, message: str) -> None:
    (source / "b.npy").write_bytes(data)
    assert_refused("bags", source, message)


def test_a_header_as_long_as_a_file_of_holes_is_refused(source: Path) -> None:
    (source / "b.npy").write_bytes(LONG_HEADER)
    os.truncate(source / "b.npy", 2**40)
    assert_refused("bags", source, "header is longer")


def zip_of(path: Path, members: dict[str, bytes], *, repeats: int = 1) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(repeats):
                    file.write(data)


def test_an_npz_that_inflates_a_thousandfold_is_refused(source: Path) -> None:
    zip_of(source / "b.npz", {"features.npy": CHUNK}, repeats=512)
    assert_refused("bags", source, "its arrays together would take 536870912 bytes")


def test_an_npz_that_announces_what_it_has_not_is_refused(source: Path) -> None:
    zip_of(source / "b.npz", {"features.npy": npy((2**40, 8))})
    assert_refused("bags", source, r"features\.npy announces .* and has 0")


def test_an_npz_of_pickles_is_refused_and_not_run(source: Path) -> None:
    evil = np.array([[RunsCode(source / "was run")]], dtype=object)
    np.savez(source / "b.npz", features=evil, allow_pickle=True)
    assert_refused("bags", source, "pickled Python objects")


def test_an_npz_whose_members_name_places_elsewhere_writes_nothing(source: Path) -> None:
    data = npy((5, 8), data=bytes(160))
    zip_of(source / "b.npz", {"../../outside.npy": data, "/etc/outside.npy": data})
    assert_refused("bags", source, "has no array 'features'")
    assert not Path("/etc/outside.npy").exists()


# tensors


def pt_source(tmp_path: Path, value: object) -> Path:
    (tmp_path / "FEAT" / "pt_files").mkdir(parents=True)
    write_table(tmp_path / "FEAT" / "t.csv", ("case_id", "slide_id", "label"), ("c", "s", "x"))
    torch.save(value, tmp_path / "FEAT" / "pt_files" / "s.pt")
    return tmp_path / "FEAT"


def test_a_tensor_spread_by_strides_of_0_is_refused(tmp_path: Path) -> None:
    source = pt_source(tmp_path, torch.ones(1, 1).expand(2**30, 2**10))
    assert_refused("clam", source, r"claims 4398046511104 bytes, the file holds 4 of it")


def test_a_pt_file_with_compressed_parts_is_refused(tmp_path: Path) -> None:
    source = pt_source(tmp_path, torch.ones(5, 8))
    path = source / "pt_files" / "s.pt"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["s/data/0"] = bytes(2**28)
    zip_of(path, parts)
    assert_refused("clam", source, "its parts claim")
