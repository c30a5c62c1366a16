import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from aml_mil.cohort import DamagedImageError, decode_image, fit_image, images
from tests.cohort.pictures import encode, photograph

PIXELS = photograph()
WHOLE = {
    "jpeg baseline": encode(PIXELS, "JPEG"),
    "jpeg progressive": encode(PIXELS, "JPEG", progressive=True),
    "jpeg with restarts": encode(PIXELS, "JPEG", restart_marker_rows=1),
    "jpeg grey": encode(PIXELS, "JPEG", mode="L"),
    "jpeg cmyk": encode(PIXELS, "JPEG", mode="CMYK"),
    "jpeg with a comment that holds an end marker": encode(PIXELS, "JPEG", comment=b"\xff\xd9" * 9),
    "tiff rgb": encode(PIXELS, "TIFF"),
    "tiff rgba": encode(PIXELS, "TIFF", mode="RGBA"),
    "tiff lzw": encode(PIXELS, "TIFF", mode="RGBA", compression="tiff_lzw"),
    "tiff deflate": encode(PIXELS, "TIFF", compression="tiff_adobe_deflate"),
    "tiff big": encode(PIXELS, "TIFF", big_tiff=True),
    "tiff packbits": encode(PIXELS, "TIFF", compression="packbits"),
    "tiff packbits grey": encode(PIXELS, "TIFF", mode="L", compression="packbits"),
    # Pillow pads these by four bytes that belong to nothing.
    "tiff of two pages": encode(
        PIXELS, "TIFF", save_all=True, append_images=[Image.fromarray(PIXELS[:40])]
    )[:-4],
    "png rgb": encode(PIXELS, "PNG"),
    "png rgba": encode(PIXELS, "PNG", mode="RGBA"),
    "png palette": encode(PIXELS, "PNG", mode="P"),
    "bmp": encode(PIXELS, "BMP"),
    "bmp with padded rows": encode(photograph(49, 47), "BMP"),
    "bmp palette": encode(PIXELS, "BMP", mode="P"),
}


def handmade_tiff(pixels: np.ndarray, *, deflate: bool, directory_first: bool) -> bytes:
    """An RGB TIFF of one strip whose directory precedes or follows the pixels."""
    height, width, _ = pixels.shape
    data = zlib.compress(pixels.tobytes()) if deflate else pixels.tobytes()
    directory_size = 6 + 2 + 9 * 12 + 4
    directory_at = 8 if directory_first else 8 + len(data)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, directory_at),
        (259, 3, 1, 8 if deflate else 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + directory_size if directory_first else 8),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack("<HHHH", 8, 8, 8, len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory += struct.pack("<I", 0)
    header = b"II*\0" + struct.pack("<I", directory_at + 6)
    return header + (directory + data if directory_first else data + directory)


WHOLE |= {
    f"tiff with its directory {'first' if first else 'last'}{', deflate' * deflate}": handmade_tiff(
        PIXELS, deflate=deflate, directory_first=first
    )
    for first in (True, False)
    for deflate in (True, False)
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_at_any_byte_is_damaged(name: str) -> None:
    data = WHOLE[name]
    cuts = {*range(max(0, len(data) - 40), len(data)), *range(0, len(data), 1 + len(data) // 60)}
    undetected = []
    for cut in cuts:
        try:
            decode_image(data[:cut])
        except DamagedImageError:
            continue
        undetected.append(cut - len(data))
    assert undetected == []


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("padding", [b"\0", b"\r\n", b"\0" * 700, b"\xff" * 3])
def test_padding_after_a_whole_file_changes_nothing(name: str, padding: bytes) -> None:
    np.testing.assert_array_equal(decode_image(WHOLE[name] + padding), decode_image(WHOLE[name]))


@pytest.mark.parametrize("name", ["jpeg baseline", "jpeg progressive"])
@pytest.mark.parametrize("tail", [b"\0" * 4000, b"\xff\xd9"], ids=["zeros", "end marker"])
def test_a_lost_tail_that_was_filled_up_is_damaged(name: str, tail: bytes) -> None:
    data = WHOLE[name]
    with pytest.raises(DamagedImageError, match="jpeg"):
        decode_image(data[: len(data) * 2 // 3] + tail)


def test_bytes_between_jpeg_segments_that_hold_no_pixels_do_no_harm() -> None:
    data = WHOLE["jpeg baseline"]
    padded = data[:-2] + b"\0" * 8 + data[-2:]
    np.testing.assert_array_equal(decode_image(padded), decode_image(data))


def odd_jpegs(data: bytes) -> Iterator[bytes]:
    """As some cameras write them: bytes before a table, a scan without its usual parameters."""
    table, scan = data.index(b"\xff\xdb"), data.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])
    yield data[:table] + b"\0\0" + data[table:]
    yield data[: end - 3] + b"\0\0\0" + data[end:]


def test_a_jpeg_with_an_odd_header_is_the_same_picture_and_damaged_where_its_tail_is_lost() -> None:
    plain = WHOLE["jpeg baseline"]
    for data in odd_jpegs(plain):
        np.testing.assert_array_equal(decode_image(data), decode_image(plain))
        with pytest.raises(DamagedImageError, match="premature end"):
            decode_image(data[: len(data) * 2 // 3] + b"\xff\xd9")


def test_a_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    with Image.open(io.BytesIO(WHOLE["jpeg baseline"])) as image:
        expected = np.array(image)
    np.testing.assert_array_equal(decode_image(WHOLE["jpeg baseline"]), expected)


@pytest.mark.parametrize(
    "name",
    ["tiff rgb", "tiff rgba", "tiff lzw", "tiff deflate", "tiff big", "png rgb", "png rgba", "bmp",
     "tiff with its directory first", "tiff with its directory last, deflate",
     "tiff of two pages"],
)  # fmt: skip
def test_lossless_pixels_come_back_unchanged_and_writable(name: str) -> None:
    decoded = decode_image(WHOLE[name])
    np.testing.assert_array_equal(decoded, PIXELS)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable


def test_a_tiff_of_other_colours_than_rgb_keeps_what_it_shows() -> None:
    data = encode(PIXELS, "TIFF", mode="YCbCr")
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), expected)
    assert np.abs(expected.astype(int) - PIXELS).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_the_orientation_of_a_tiff_is_ignored_whoever_decodes_it(mode, orientation) -> None:
    pixels = photograph(40, 56)
    whole = decode_image(encode(pixels, "TIFF", mode=mode))
    turned = encode(pixels, "TIFF", mode=mode, tiffinfo={274: orientation})
    np.testing.assert_array_equal(decode_image(turned), whole)
    np.testing.assert_array_equal(images._decode_with_pillow(turned, "TIFF"), whole)


def test_the_reason_for_a_damaged_file_is_the_same_each_time(monkeypatch) -> None:
    def refuse(*_, **__):
        raise UnidentifiedImageError(f"cannot identify image file {io.BytesIO()!r}")

    monkeypatch.setattr(images.Image, "open", refuse)
    with pytest.raises(DamagedImageError, match=r"^damaged png, or of a kind that Pillow does not"):
        decode_image(WHOLE["png rgb"])


PLAIN_TIFFS = [
    "tiff rgb",
    "tiff rgba",
    "tiff lzw",
    "tiff deflate",
    "tiff big",
    "tiff packbits",
    "tiff with its directory last, deflate",
]


@pytest.mark.parametrize("name", PLAIN_TIFFS)
def test_a_plain_tiff_needs_no_pillow_and_has_the_same_pixels(name: str, monkeypatch) -> None:
    expected = images._decode_with_pillow(WHOLE[name], "TIFF")
    monkeypatch.delattr(images, "_decode_with_pillow")
    found = decode_image(WHOLE[name])
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd tags
@pytest.mark.parametrize("name", ["tiff rgb", "tiff lzw", "tiff packbits"])
def test_a_scrambled_tiff_is_what_pillow_alone_would_make_of_it(name: str) -> None:
    rng = random.Random(name)
    num_damaged = 0
    for _ in range(150):
        data = bytearray(WHOLE[name])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data) // 4, len(data) // 4 * 3)] = rng.randrange(256)
        try:
            expected = images._decode_with_pillow(bytes(data), "TIFF")
        except DamagedImageError:
            num_damaged += 1
            with pytest.raises(DamagedImageError):
                decode_image(bytes(data))
        else:
            np.testing.assert_array_equal(decode_image(bytes(data)), expected)
    assert num_damaged or name != "tiff lzw"


def test_transparency_is_composited_on_white() -> None:
    alpha = np.full((48, 48, 1), 255, np.uint8)
    alpha[:24] = 0
    decoded = decode_image(encode(np.dstack([PIXELS, alpha]), "PNG"))
    assert (decoded[:24] == 255).all()
    np.testing.assert_array_equal(decoded[24:], PIXELS[24:])


def test_an_alpha_channel_of_zeros_hides_nothing() -> None:
    rgba = np.dstack([PIXELS, np.zeros((48, 48, 1), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(rgba, "TIFF")), PIXELS)


def test_grey_becomes_three_equal_channels() -> None:
    decoded = decode_image(encode(PIXELS, "PNG", mode="L"))
    expected = np.array(Image.fromarray(PIXELS).convert("L"))
    np.testing.assert_array_equal(decoded, np.dstack([expected] * 3))


def test_cmyk_keeps_its_colours() -> None:
    decoded = decode_image(encode(PIXELS, "TIFF", mode="CMYK"))
    np.testing.assert_array_equal(decoded, PIXELS)


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(PIXELS, "JPEG", exif=exif)
    np.testing.assert_array_equal(decode_image(turned), decode_image(WHOLE["jpeg baseline"]))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_refused_with_the_reason(file_format: str) -> None:
    deep = np.full((48, 48), 40_000, np.uint16)
    with pytest.raises(DamagedImageError, match="16 bits per channel, expected 8"):
        decode_image(encode(deep, file_format))


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [(15, 200, "too small"), (1025, 1025, "whole field"), (64, 5000, "whole field")],
)
def test_what_is_no_cell_by_its_size_is_refused(width: int, height: int, reason: str) -> None:
    with pytest.raises(DamagedImageError, match=f"{reason}.*{width}x{height} px"):
        decode_image(encode(np.zeros((height, width, 3), np.uint8), "PNG"))


@pytest.mark.parametrize("side", [16, 360, 1024])
def test_sizes_of_single_cells_are_accepted(side: int) -> None:
    assert decode_image(encode(photograph(side, side), "JPEG")).shape == (side, side, 3)


def test_a_decompression_bomb_is_refused_before_memory_is_taken() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    bomb += chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")
    tracemalloc.start()
    with pytest.raises(DamagedImageError, match="whole field"):
        decode_image(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "data", [b"", b"version https://git-lfs", b"GIF89a" + bytes(60), bytes(99)]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedImageError, match=r"empty file|not a tif, jpeg, png or bmp"):
        decode_image(data)


def test_a_flipped_byte_in_a_png_is_damaged() -> None:
    data = bytearray(WHOLE["png rgb"])
    data[len(data) // 2] ^= 4
    with pytest.raises(DamagedImageError, match="checksum"):
        decode_image(bytes(data))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd tags
@pytest.mark.parametrize("name", ["tiff rgb", "tiff lzw", "bmp", "jpeg baseline", "png palette"])
def test_scrambled_bytes_are_decoded_or_damaged_but_never_another_error(name: str) -> None:
    rng = random.Random(name)
    for _ in range(60):
        data = bytearray(WHOLE[name])
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        try:
            assert decode_image(bytes(data)).shape[2] == 3
        except DamagedImageError:
            continue


def test_fitting_a_picture_of_the_right_size_returns_it_untouched() -> None:
    assert fit_image(PIXELS, 48) is PIXELS


@pytest.mark.parametrize(("width", "height"), [(360, 365), (100, 70), (48, 60), (31, 31)])
def test_fitting_gives_the_size_asked_for(width: int, height: int) -> None:
    assert fit_image(photograph(width, height), 48).shape == (48, 48, 3)


def test_fitting_keeps_the_centre_and_the_aspect() -> None:
    rows, columns = np.indices((120, 200))
    disc = np.hypot(rows - 59.5, columns - 99.5) < 40
    fitted = fit_image(np.dstack([np.where(disc, 255, 0).astype(np.uint8)] * 3), 60)[..., 0]
    covered = fitted > 127
    assert covered.any(axis=0).sum() == covered.any(axis=1).sum() == 40
    np.testing.assert_array_equal(covered, covered[::-1, ::-1])


def test_shrinking_averages_fine_stripes_away() -> None:
    stripes = np.zeros((288, 288, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit_image(stripes, 100)[:, 1:-1].astype(int) - 127).max() <= 2


def test_a_size_that_is_not_positive_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive image size in px, got 0"):
        fit_image(PIXELS, 0)
