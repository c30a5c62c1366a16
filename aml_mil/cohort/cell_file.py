"""One cell file: read, hashed, decoded, fitted, its colour measured."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort.errors import DamagedImageError
from aml_mil.cohort.images import decode_image, fit_image, read_image_file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellFile:
    """What became of one file.

    Attributes:
        sha256: Hex digest of its bytes; "" where it could not be read.
        image: [S, S, 3] RGB; None where the file is damaged or could not be read.
        colour: Mean of R, G, B and their standard deviation on the scale 0 to 255, [6].
        damage: Why it is no usable image; "" where it is one.
        io_error: Why it could not be read; "" where it could.
    """

    sha256: str = ""
    image: NDArray[np.uint8] | None = None
    colour: NDArray[np.float32] | None = None
    damage: str = ""
    io_error: str = ""


def load_file(path: Path, *, image_size_px: int | None) -> CellFile:
    """Read and decode one file; what is wrong with it is told, not raised.

    Args:
        path: The file.
        image_size_px: Side of the fitted image; None leaves it at the hash.

    Returns:
        The image, or why there is none.
    """
    try:
        data = read_image_file(path)
    except OSError as error:
        return CellFile(io_error=error.strerror or str(error))
    except DamagedImageError as error:
        return CellFile(damage=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    if image_size_px is None:
        return CellFile(sha256=sha256)
    try:
        image = fit_image(decode_image(data), image_size_px)
    except DamagedImageError as error:
        return CellFile(sha256=sha256, damage=str(error))
    return CellFile(sha256=sha256, image=image, colour=measure_colour(image))


def measure_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure mean and standard deviation of each channel.

    Args:
        image: [H, W, 3] RGB.

    Returns:
        [6]: means of R, G, B, then standard deviations, on the scale 0 to 255; for one colour
        everywhere that colour and zeros.
    """
    num = image.shape[0] * image.shape[1]
    means, deviations = (value.ravel().tolist() for value in cv2.meanStdDev(image))
    # Back to the whole numbers they come from, so that the order in which pixels are added cannot
    # matter: the largest picture's are known to 1e-4.
    totals = [round(mean * num) for mean in means]
    squares = [
        round((deviation**2 + mean**2) * num)
        for mean, deviation in zip(means, deviations, strict=True)
    ]
    spread = [
        math.sqrt(num * square - total * total) / num
        for total, square in zip(totals, squares, strict=True)
    ]
    return np.array([*(total / num for total in totals), *spread], dtype=np.float32)
