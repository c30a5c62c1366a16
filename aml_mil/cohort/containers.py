"""Walk an image file's structure: is every byte there that it refers to, and how large is it?

Decoders forgive a missing tail (an end-of-image marker, a checksum, a directory), and some paint
what is missing grey. Here a file counts as whole only when its own structure is complete, and its
size is known before a single pixel is decoded. Bytes after the end are ignored: tools pad files.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from aml_mil.cohort.errors import DamagedImageError

# A marker inside or between scans: not a stuffed 0x00, a fill 0xFF, or a restart (D0–D7).
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA
_JPEG_SEQUENTIAL = (0xC0, 0xC1)
MAX_JPEG_SCANS = 500  # a progressive photograph has ten; each may touch every coefficient
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BMP_UNCOMPRESSED = (0, 3, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a file says about its picture.

    Attributes:
        format: Pillow's name of the format.
        width_px: Of the first picture.
        height_px: Of the first picture.
        bits: Per channel.
        channels: Number of colour components; 0 where the format leaves that to its mode.
        is_plain: Whether it is a TIFF of interleaved 8-bit RGB, with or without alpha, as it is or
            compressed without loss.
    """

    format: str
    width_px: int
    height_px: int
    bits: int
    channels: int = 0
    is_plain: bool = False


def truncated(what: str, data: bytes) -> DamagedImageError:
    """Make the error for a file that ends too early."""
    return DamagedImageError(f"truncated {what} ({len(data)} bytes)")


def inspect_jpeg(data: bytes) -> ImageHeader:
    """Walk the segments to the end-of-image marker, over any number of scans.

    Raises:
        DamagedImageError: The file ends before its marker, has no picture in it or two, or more
            than 500 scans.
    """
    frames: list[ImageHeader] = []
    num_scans = 0
    for marker, position, length in _jpeg_segments(data):
        num_scans += marker == _JPEG_SCAN
        if marker in _JPEG_SIZE_MARKERS and length >= 8:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 2)
            frames.append(
                ImageHeader(
                    format="JPEG", width_px=width, height_px=height, bits=bits, channels=channels
                )
            )
        if len(frames) > 1 or num_scans > MAX_JPEG_SCANS:
            message = f"damaged jpeg: two frames in one file, or over {MAX_JPEG_SCANS} scans"
            raise DamagedImageError(message)
    if not frames or not num_scans:
        message = "jpeg without a picture: no frame or no scan before its end"
        raise DamagedImageError(message)
    return frames[0]


def tidy_jpeg(data: bytes) -> bytes:
    """Leave out what lies between the segments before the first scan, and correct the scans.

    Args:
        data: A file that `inspect_jpeg` accepts.

    Returns:
        The same picture, with the parameters that each scan of a sequential one must have.
    """
    head, rest = bytearray(data[:2]), bytearray(data)
    is_sequential, first_scan = False, 0
    for marker, position, length in _jpeg_segments(data):
        end = position + length
        is_sequential |= marker in _JPEG_SEQUENTIAL
        if marker == _JPEG_SCAN:
            first_scan = first_scan or position - 2
            if is_sequential:
                rest[end - 3 : end] = b"\0\x3f\0"
        if not first_scan:
            head += data[position - 2 : end]
    return bytes(head + rest[first_scan:])


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and length of each segment, up to the end-of-image marker."""
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker, position = data[match.end() - 1], match.end()
        if marker == _JPEG_END:
            return
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[position : position + 2])
        if position + max(length, 2) > len(data):
            break
        yield marker, position, length
        position += length
    raise truncated("jpeg: no end-of-image marker", data)


def inspect_png(data: bytes) -> ImageHeader:
    """Walk the chunks to IEND, with their checksums.

    Raises:
        DamagedImageError: The file ends before IEND, or a checksum does not match.
    """
    header: ImageHeader | None = None
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            message = f"damaged png: checksum of chunk {kind!r} does not match"
            raise DamagedImageError(message)
        if kind == b"IHDR" and length >= 13:
            width, height, bits = struct.unpack_from(">IIB", data, position + 8)
            header = ImageHeader(format="PNG", width_px=width, height_px=height, bits=bits)
        if kind == b"IEND":
            if header is None:
                message = "png without a picture: no IHDR chunk before its end"
                raise DamagedImageError(message)
            return header
        position = end
    raise truncated("png: no IEND chunk", data)


def inspect_bmp(data: bytes) -> ImageHeader:
    """Check that all rows, with their padding, are in the file.

    Raises:
        DamagedImageError: The file ends before its last row.
    """
    if len(data) < 26:
        raise truncated("bmp: no header", data)
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, size = 0, 0
    elif len(data) < 38:
        raise truncated("bmp: no header", data)
    else:
        width, height, _, bits, compression, size = struct.unpack_from("<iiHHII", data, 18)
    if compression in _BMP_UNCOMPRESSED:
        size = (width * bits + 31) // 32 * 4 * abs(height)
    if offset + size > len(data):
        raise truncated("bmp: rows missing", data)
    return ImageHeader(format="BMP", width_px=width, height_px=abs(height), bits=min(bits, 8))
