"""Crafted images: refused by a stated limit, in little memory and time."""

import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_mil.cohort import Cell, DamagedImageError, Patient, decode_image, read_image_file
from aml_mil.embedding.cells import load_cell
from tests.cohort.pictures import encode, photograph
from tests.limits import little_memory

JPEG = encode(photograph(), "JPEG")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (header, *chunks, (b"IEND", b""))
    )


def tiff(*entries: tuple[int, int, int, int], tail: bytes = b"", next_offset: int = 0) -> bytes:
    """A TIFF of one directory of (tag, type, count, value or offset)."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", next_offset) + tail


def picture(width: int, height: int) -> tuple[tuple[int, int, int, int], ...]:
    """The tags of an RGB picture of 8 bits."""
    return ((256, 4, 1, width), (257, 4, 1, height), (262, 3, 1, 2), (277, 3, 1, 3))


def jpeg_of_size(width: int, height: int) -> bytes:
    place = JPEG.index(b"\xff\xc0")
    return JPEG[: place + 5] + struct.pack(">HH", height, width) + JPEG[place + 9 :]


def frame_segment(width: int, height: int) -> bytes:
    return b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)


BOMB = zlib.compress(bytes(2**27), 1)
HOSTILE = {
    "png of 60,000 px": png(60_000, 60_000, (b"IDAT", BOMB)),
    "png of 2^31 px": png(2**31 - 1, 2**31 - 1, (b"IDAT", BOMB)),
    "png whose comment inflates": png(48, 48, (b"zTXt", b"a\0\0" + BOMB), (b"IDAT", BOMB)),
    "png whose colour profile inflates": png(48, 48, (b"iCCP", b"a\0\0" + BOMB)),
    "jpeg of 65,535 px": jpeg_of_size(65_535, 65_535),
    "jpeg of a small picture behind a huge one": (
        jpeg_of_size(65_500, 65_500)[:-2] + frame_segment(48, 48) + b"\xff\xd9"
    ),
    "jpeg of a huge picture behind a small one": (
        JPEG[:-2] + frame_segment(65_500, 65_500) + b"\xff\xd9"
    ),
    "jpeg of 10,000 scans": JPEG[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 10_000 + b"\xff\xd9",
    "tiff of 2^32 px": tiff(*picture(2**32 - 1, 2**32 - 1)),
    "tiff whose strip lies far outside": tiff(
        *picture(48, 48), (273, 4, 1, 2**32 - 1), (279, 4, 1, 2**32 - 1)
    ),
    "tiff whose directory lies far outside": b"II*\0\xf0\xff\xff\xff",
    "tiff whose directories go round": tiff(*picture(48, 48), next_offset=8),
    "tiff whose nested directories go round": tiff(*picture(48, 48), (330, 4, 1, 8)),
    "tiff of 4,000,000,000 values": tiff(*picture(48, 48), (273, 4, 4_000_000_000, 8)),
    "tiff of 33,000 tags that share one million bytes": tiff(
        *picture(48, 48), *((tag, 1, 2**20, 100) for tag in range(1_000, 34_000)), tail=bytes(2**20)
    ),
    "tiff of a million strips": tiff(*picture(48, 48), (273, 1, 2**20, 8), tail=bytes(2**20)),
    "tiff of a tile of 2 GB": tiff(
        *picture(48, 48), (322, 4, 1, 26_000), (323, 4, 1, 26_000), (259, 3, 1, 8),
        (324, 4, 1, 122), (325, 4, 1, len(BOMB)), tail=BOMB,
    ),
    "tiff of 65,535 channels": tiff(
        (256, 4, 1, 48), (257, 4, 1, 48), (277, 3, 1, 65_535), (273, 4, 1, 8), (279, 4, 1, 8)
    ),
    "bmp of 2^31 px": b"BM"
    + bytes(8)
    + struct.pack("<IIiiHHI", 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 1)
    + bytes(40),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd tags
@pytest.mark.parametrize("name", HOSTILE)
def test_a_crafted_image_is_refused_in_little_memory_and_time(name: str) -> None:
    begun = time.process_time()
    with little_memory(128), pytest.raises(DamagedImageError):
        decode_image(HOSTILE[name])
    assert time.process_time() - begun < 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("png of 60,000 px", "short side of at most 1024"),
        ("jpeg of a small picture behind a huge one", "two frames"),
        ("jpeg of 10,000 scans", "over 500 scans"),
        ("tiff of 33,000 tags that share one million bytes", "of a file of"),
        ("tiff of a million strips", "expected at most 65536"),
        ("tiff of a tile of 2 GB", "expected at most 4096"),
    ],
)
def test_the_limit_is_said(name: str, limit: str) -> None:
    with pytest.raises(DamagedImageError, match=limit):
        decode_image(HOSTILE[name])


def test_one_strip_said_to_hold_all_rows_there_could_be_is_read_as_it_is() -> None:
    pixels = photograph()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", tiffinfo={278: 2**31 - 1})
    with little_memory(128):
        np.testing.assert_array_equal(decode_image(buffer.getvalue()), pixels)


def test_a_file_of_holes_or_a_pipe_is_set_aside_unread(tmp_path: Path) -> None:
    (tmp_path / "image_0.tif").write_bytes(b"II*\0")
    os.truncate(tmp_path / "image_0.tif", 2**40)
    os.mkfifo(tmp_path / "image_1.tif")
    for name, reason in (("image_0.tif", "at most 134217728"), ("image_1.tif", "not a regular")):
        path = tmp_path / name
        with little_memory(64):
            with pytest.raises(DamagedImageError, match=reason):
                read_image_file(path)
            cell = Cell(path=path, instance_id=name)
            patient = Patient(patient_id="p", label=None, cells=(cell,))
            assert reason in load_cell(patient, cell, image_size_px=48).damage
