"""Walk a TIFF's directories: every value, strip and tile they refer to must lie in the file."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from aml_mil.cohort.containers import ImageHeader, truncated
from aml_mil.cohort.errors import DamagedImageError

MAX_DIRECTORIES = 1024
MAX_VALUES = 2**16  # of one tag that is read: strips or tiles of a picture
MAX_TILE_SIDE_PX = 4096
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, CHANNELS, STRIP_SIZES = 273, 277, 279
PLANAR, SAMPLE_FORMAT = 284, 339
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
JPEG_OFFSET, JPEG_SIZE = 513, 514
# Directories that hang on a directory: sub-images, EXIF, GPS.
NESTED = (330, 34665, 34853)
_PIXELS = ((STRIP_OFFSETS, STRIP_SIZES), (TILE_OFFSETS, TILE_SIZES), (JPEG_OFFSET, JPEG_SIZE))
_READ = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, CHANNELS, PLANAR, SAMPLE_FORMAT}
    | {TILE_WIDTH, TILE_HEIGHT, *NESTED}
    | {tag for pair in _PIXELS for tag in pair}
)
LOSSLESS = ((1,), (5,), (8,), (32773,), (32946,))  # none, LZW, deflate, PackBits, old deflate
RGB, INTERLEAVED, UNSIGNED = 2, 1, 1
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}


class _Variant(NamedTuple):
    """Byte order and field widths of classic TIFF or BigTIFF."""

    order: str
    first: int  # where the offset of the first directory stands
    word: str  # struct code of an offset
    word_size: int
    entries: str  # struct code of the number of entries
    entries_size: int


@dataclass(frozen=True, slots=True)
class _Directory:
    values: dict[int, tuple[int, ...]]
    next_offset: int


def inspect_tiff(data: bytes) -> ImageHeader:
    """Follow all directories and check the extent of everything they refer to.

    Returns:
        Size and depth of the first picture.

    Raises:
        DamagedImageError: Something lies beyond the end of the file, or is claimed so often or so
            large that reading it would take far more memory than the file has.
    """
    variant = _variant(data)
    directories = list(_directories(data, variant))
    for directory in directories:
        _check_pixels(data, directory.values)
    first = directories[0].values
    try:
        width, height = first[WIDTH][0], first[HEIGHT][0]
    except (KeyError, IndexError):
        message = "tiff without a picture: no width or height in its first directory"
        raise DamagedImageError(message) from None
    return ImageHeader(
        format="TIFF",
        width_px=width,
        height_px=height,
        bits=max(first.get(BITS) or (1,)),
        channels=(first.get(CHANNELS) or (1,))[0],
        is_plain=_is_plain(first),
    )


def _is_plain(values: dict[int, tuple[int, ...]]) -> bool:
    return (
        set(values.get(BITS, ())) == {8}
        and values.get(CHANNELS) in ((3,), (4,))
        and values.get(PHOTOMETRIC) == (RGB,)
        and values.get(PLANAR, (INTERLEAVED,)) == (INTERLEAVED,)
        and set(values.get(SAMPLE_FORMAT, (UNSIGNED,))) == {UNSIGNED}
        and values.get(COMPRESSION, (1,)) in LOSSLESS
    )


def _variant(data: bytes) -> _Variant:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    return _Variant(order, 8, "Q", 8, "Q", 8) if big else _Variant(order, 4, "I", 4, "H", 2)


def _directories(data: bytes, variant: _Variant) -> Iterator[_Directory]:
    """Yield the chain of pictures first, then what hangs on them."""
    pending = list(_unpack(data, variant.order + variant.word, variant.first))
    nested: list[int] = []
    seen: set[int] = set()
    while pending or nested:
        offset = pending.pop() if pending else nested.pop(0)
        if offset == 0 or offset in seen:
            continue
        seen.add(offset)
        if len(seen) > MAX_DIRECTORIES:
            message = f"expected at most {MAX_DIRECTORIES} directories in a tiff, got more"
            raise DamagedImageError(message)
        directory = _read_directory(data, offset, variant)
        pending.append(directory.next_offset)
        nested.extend(o for tag in NESTED for o in directory.values.get(tag, ()))
        yield directory
    if not seen:
        message = "tiff without a picture: no directory"
        raise DamagedImageError(message)


def _read_directory(data: bytes, offset: int, variant: _Variant) -> _Directory:
    (count,) = _unpack(data, variant.order + variant.entries, offset)
    entry_size = 4 + 2 * variant.word_size
    end = offset + variant.entries_size + count * entry_size
    (next_offset,) = _unpack(data, variant.order + variant.word, end)
    values = {}
    total = 0
    for position in range(offset + variant.entries_size, end, entry_size):
        tag, size, values_found = _read_entry(data, position, variant)
        values[tag] = values_found
        total += size
    # Decoders read all of it, however often one place is claimed; honest tags hardly share any.
    if total > 2 * len(data):
        message = f"tiff: tags claim {total} bytes of a file of {len(data)}"
        raise DamagedImageError(message)
    return _Directory(values, next_offset)


def _read_entry(data: bytes, position: int, variant: _Variant) -> tuple[int, int, tuple[int, ...]]:
    """Return tag, size of its values in bytes, and the values where they are of use here."""
    tag, kind, count = _unpack(data, f"{variant.order}HH{variant.word}", position)
    inline = position + 4 + variant.word_size
    size = _SIZES.get(kind, 1) * count
    start = inline
    if size > variant.word_size:
        (start,) = _unpack(data, variant.order + variant.word, inline)
    if start + size > len(data):
        raise truncated(f"tiff: values of tag {tag} missing", data)
    if kind not in _FORMATS or tag not in _READ:
        return tag, size, ()
    if count > MAX_VALUES:
        message = f"tiff: {count} values of tag {tag}, expected at most {MAX_VALUES}"
        raise DamagedImageError(message)
    return tag, size, _unpack(data, f"{variant.order}{count}{_FORMATS[kind]}", start)


def _check_pixels(data: bytes, values: dict[int, tuple[int, ...]]) -> None:
    side = max((*values.get(TILE_WIDTH, ()), *values.get(TILE_HEIGHT, ())), default=0)
    if side > MAX_TILE_SIDE_PX:
        message = f"tiff: tiles of {side} px, expected at most {MAX_TILE_SIDE_PX}"
        raise DamagedImageError(message)
    for offsets_tag, sizes_tag in _PIXELS:
        offsets, sizes = values.get(offsets_tag, ()), values.get(sizes_tag, ())
        ends = (offset + size for offset, size in zip(offsets, sizes, strict=False))
        if max(ends, default=0) > len(data):
            raise truncated("tiff: pixel data missing", data)


def _unpack(data: bytes, layout: str, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except struct.error:
        raise truncated("tiff: directory missing", data) from None
