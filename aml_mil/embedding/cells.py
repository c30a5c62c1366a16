"""One cell file: read, hashed, decoded, fitted, its colour measured."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import (
    Cell,
    DamagedImageError,
    Patient,
    decode_image,
    fit_image,
    read_image_file,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedCell:
    """What became of one file.

    Attributes:
        patient: Whose cell it is.
        cell: The file.
        sha256: Hex digest of its bytes; "" where it could not be read.
        image: [S, S, 3] RGB; None where the file is damaged or could not be read.
        colour: Mean of R, G, B and their standard deviation on the scale 0 to 255, [6].
        damage: Why it is no usable image; "" where it is one.
        io_error: Why it could not be read; "" where it could.
    """

    patient: Patient
    cell: Cell
    sha256: str = ""
    image: NDArray[np.uint8] | None = None
    colour: NDArray[np.float32] | None = None
    damage: str = ""
    io_error: str = ""


def load_cell(patient: Patient, cell: Cell, *, image_size_px: int) -> LoadedCell:
    """Read and decode one file; what is wrong with it is told, not raised.

    Args:
        patient: Whose cell it is.
        cell: The file.
        image_size_px: Side of the fitted image.

    Returns:
        The image, or why there is none.
    """
    try:
        data = read_image_file(cell.path)
    except OSError as error:
        return LoadedCell(patient=patient, cell=cell, io_error=error.strerror or str(error))
    except DamagedImageError as error:
        return LoadedCell(patient=patient, cell=cell, damage=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        image = fit_image(decode_image(data), image_size_px)
    except DamagedImageError as error:
        return LoadedCell(patient=patient, cell=cell, sha256=sha256, damage=str(error))
    return LoadedCell(
        patient=patient, cell=cell, sha256=sha256, image=image, colour=measure_colour(image)
    )


def hash_cell(patient: Patient, cell: Cell) -> LoadedCell:
    """Read one file for its SHA-256 alone."""
    try:
        data = read_image_file(cell.path)
    except OSError as error:
        return LoadedCell(patient=patient, cell=cell, io_error=error.strerror or str(error))
    except DamagedImageError as error:
        return LoadedCell(patient=patient, cell=cell, damage=str(error))
    return LoadedCell(patient=patient, cell=cell, sha256=hashlib.sha256(data).hexdigest())


def measure_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure mean and standard deviation of each channel.

    Args:
        image: [H, W, 3] RGB.

    Returns:
        [6]: means of R, G, B, then standard deviations, on the scale 0 to 255; for one colour
        everywhere that colour and zeros.
    """
    num = image.shape[0] * image.shape[1]
    means, deviations = (value.ravel() for value in cv2.meanStdDev(image))
    # Back to the whole numbers they come from, so that the order in which pixels are added cannot
    # matter: the largest picture's are known to 1e-4.
    totals = np.rint(means * num).astype(np.int64)
    squares = np.rint((deviations**2 + means**2) * num).astype(np.int64)
    spread = np.sqrt(num * squares - totals * totals) / num
    return np.concatenate([totals / num, spread]).astype(np.float32)
