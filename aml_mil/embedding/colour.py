"""The colour of a patient, six numbers, and how it is brought to another.

Shapes: n cells of one patient, S pixels a side.
"""

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
RgbImage = npt.NDArray[np.uint8]

LEVELS = np.arange(256, dtype=np.float64)[:, None]  # every value that a channel can have
SMALLEST_SD = 1e-6


def pool_colours(colours: npt.NDArray[np.floating]) -> FloatArray:
    """Return mean and s.d. of R, G, B over all pixels of a patient's cells, [6].

    All cells have the same number of pixels, so a patient's mean is the mean of the cells' means,
    and its mean square the mean of the cells' s.d.² + mean².

    Args:
        colours: Mean and s.d. of R, G, B of each cell, [n, 6].
    """
    means, sds = np.split(colours.astype(np.float64), 2, axis=1)
    mean = means.mean(axis=0)
    mean_square = (sds**2 + means**2).mean(axis=0)
    return np.concatenate([mean, np.sqrt(np.maximum(mean_square - mean**2, 0))])


def match_colour(image: RgbImage, own: FloatArray, wanted: FloatArray) -> RgbImage:
    """Bring pixels from one mean and s.d. of R, G, B to another, channel by channel.

    Args:
        image: [S, S, 3].
        own: Mean and s.d. of the patient, [6]; a channel without any spread keeps none.
        wanted: Mean and s.d. to reach, [6].

    Returns:
        [S, S, 3], rounded, and cut off at 0 and 255.

    Source:
        Reinhard et al. 2001, https://doi.org/10.1109/38.946629, eq. 10 and 11, in RGB.
    """
    gain = wanted[3:] / np.maximum(own[3:], SMALLEST_SD)
    matched = to_pixels((LEVELS - own[:3]) * gain + wanted[:3])
    # One look-up a pixel: every pixel of a channel goes by the same rule.
    image_matched: RgbImage = np.asarray(cv2.LUT(image, matched[None]), dtype=np.uint8)
    return image_matched


def to_pixels(values: npt.NDArray[np.floating]) -> RgbImage:
    """Round values, and cut them off at 0 and 255."""
    pixels: RgbImage = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
