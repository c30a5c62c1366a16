"""Decode one cell image to RGB, or say why it is not one.

JPEGs are decoded by simplejpeg in strict mode, plain TIFFs by imagecodecs, everything else by
Pillow. None is trusted to notice a missing tail: `containers` and `tiff` check that first. Pillow
holds the interpreter for half of a TIFF's decoding, so that threads hardly gain by it.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import cv2
import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from aml_mil.cohort.containers import (
    ImageHeader,
    inspect_bmp,
    inspect_jpeg,
    inspect_png,
    tidy_jpeg,
)
from aml_mil.cohort.errors import DamagedImageError
from aml_mil.cohort.tiff import inspect_tiff
from stores.files import read_bytes

DECODE_RULE = (
    "first picture of the file; transparency composited on white (ignored where nothing is "
    "opaque); EXIF orientation ignored: a cell has no upside"
)
RESIZE_RULE = "centre square of the short side, antialiased bicubic (Pillow) to image_size_px"
IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp"})
MIN_SHORT_SIDE_PX = 16
MAX_SHORT_SIDE_PX = 1024
MAX_LONG_SIDE_PX = 4096
MAX_FILE_BYTES = 2**27  # several uncompressed pictures of the largest size

_INSPECTORS: MappingProxyType[bytes, Callable[[bytes], ImageHeader]] = MappingProxyType(
    {
        b"\xff\xd8\xff": inspect_jpeg,
        b"\x89PNG\r\n\x1a\n": inspect_png,
        b"BM": inspect_bmp,
        b"II*\x00": inspect_tiff,
        b"MM\x00*": inspect_tiff,
        b"II+\x00": inspect_tiff,
        b"MM\x00+": inspect_tiff,
    }
)
# libjpeg's warnings about bytes that carry no pixels; strict decoding would raise on them, too.
_HARMLESS_JPEG = ("extraneous bytes before marker", "Invalid SOS parameters")
# What leads back from each EXIF orientation.
_UNDO_TURN: MappingProxyType[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
)
# What parsers raise on bytes that were never a valid file.
_PARSER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image_file(path: Path) -> bytes:
    """Read the bytes of one image file.

    Raises:
        OSError: It cannot be read.
        DamagedImageError: It is over 128 MiB or no regular file.
    """
    try:
        return read_bytes(path, max_bytes=MAX_FILE_BYTES).tobytes()
    except ValueError as error:
        raise DamagedImageError(f"no image of a cell: {error}") from error


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode the bytes of one image file to RGB.

    Args:
        data: The whole file: tif, jpeg, png or bmp, recognised by content.

    Returns:
        Writable [H, W, 3] RGB; grey, palette, CMYK and transparent pictures are converted.

    Raises:
        DamagedImageError: The file is truncated or undecodable, its short side is below 16 px
            or above 1,024 px (a whole field, not a cell), or it has more than 8 bits a channel.
    """
    header = _inspect(data)
    _check_size(header.width_px, header.height_px)
    if header.bits > 8:
        message = f"{header.bits} bits per channel, expected 8; convert the image to 8 bits"
        raise DamagedImageError(message)
    if header.format == "JPEG" and header.channels in (1, 3):
        return _decode_jpeg(data)
    if header.is_plain and (image := _decode_plain_tiff(data)) is not None:
        return image
    return _decode_with_pillow(data, header.format)


def fit_image(image: NDArray[np.uint8], image_size_px: int) -> NDArray[np.uint8]:
    """Bring a picture of any size to a square, by `RESIZE_RULE`.

    Args:
        image: [H, W, 3] RGB.
        image_size_px: Side of the result, above 0.

    Returns:
        [image_size_px, image_size_px, 3]; the very same array when it already has that size.

    Raises:
        ValueError: ``image_size_px`` is not positive.
    """
    if image_size_px < 1:
        message = f"expected a positive image size in px, got {image_size_px}"
        raise ValueError(message)
    height, width = image.shape[:2]
    if height == width == image_size_px:
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == image_size_px:
        return square
    resized = Image.fromarray(square).resize((image_size_px,) * 2, Image.Resampling.BICUBIC)
    return np.array(resized)


def _inspect(data: bytes) -> ImageHeader:
    for magic, inspect in _INSPECTORS.items():
        if data.startswith(magic):
            return inspect(data)
    if not data:
        message = "empty file"
    else:
        message = f"not a tif, jpeg, png or bmp image: starts with {data[:8]!r}"
    raise DamagedImageError(message)


def _check_size(width: int, height: int) -> None:
    """Refuse what is no cell before memory is taken for it."""
    short, long = sorted((width, height))
    if short < MIN_SHORT_SIDE_PX:
        message = f"too small: {width}x{height} px, expected at least {MIN_SHORT_SIDE_PX}"
        raise DamagedImageError(message)
    if short > MAX_SHORT_SIDE_PX or long > MAX_LONG_SIDE_PX:
        message = (
            f"a whole field, not a cell: {width}x{height} px, expected a short side of at most "
            f"{MAX_SHORT_SIDE_PX} and a long side of at most {MAX_LONG_SIDE_PX}"
        )
        raise DamagedImageError(message)


def _decode_jpeg(data: bytes, *, is_tidy: bool = False) -> NDArray[np.uint8]:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=True)
        _check_size(width, height)
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        if any(warning in str(error) for warning in _HARMLESS_JPEG):
            if not is_tidy:  # strict decoding ends at the first warning, whatever follows
                return _decode_jpeg(tidy_jpeg(data), is_tidy=True)
            return _decode_with_pillow(data, "JPEG")
        message = f"damaged jpeg: {error}"
        raise DamagedImageError(message) from error
    return image


def _decode_plain_tiff(data: bytes) -> NDArray[np.uint8] | None:
    """Decode RGB, or RGB whose alpha says nothing; None where Pillow must see to it."""
    try:
        pixels = imagecodecs.tiff_decode(data)
    except _PARSER_ERRORS:  # its own are RuntimeErrors
        return None
    rgb: NDArray[np.uint8] = pixels
    if pixels.shape[2] == 4:
        if pixels[..., 3].min() < 255 and pixels[..., 3].any():
            return None
        rgb = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)  # type: ignore[assignment]
    return rgb


def _decode_with_pillow(data: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=(name,)) as opened:
            _check_size(*opened.size)
            return np.array(_to_rgb(_as_stored(opened)))
    except UnidentifiedImageError as error:  # its text holds an address in memory
        message = f"damaged {name.lower()}, or of a kind that Pillow does not know"
        raise DamagedImageError(message) from error
    except _PARSER_ERRORS as error:
        message = f"damaged {name.lower()}: {error or type(error).__name__}"
        raise DamagedImageError(message) from error


def _as_stored(image: Image.Image) -> Image.Image:
    """Undo the turn that Pillow gives a TIFF, and nothing else, by its orientation."""
    if image.format != "TIFF":
        return image
    undo = _UNDO_TURN.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    image.load()
    return image if undo is None else image.transpose(undo)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        message = f"pixels of mode {image.mode}, expected 8 bits; convert the image to 8 bits"
        raise DamagedImageError(message)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    low, high = rgba.getchannel("A").getextrema()
    # Some microscopes write an alpha of 0 everywhere; on white, nothing of the cell would be left.
    if low == 255 or high == 0:
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
