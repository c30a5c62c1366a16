"""What a stress test does to images: changes of stain, light and optics that are not disease.

Shapes: S pixels a side.

A stain differs from smear to smear, so where a change has a direction, each patient draws its own;
were all patients changed alike, a model that ranks them by colour would keep its ranking.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFilter

from aml_mil.embedding.colour import FloatArray, RgbImage, match_colour, to_pixels

# Rec. 601: how bright the eye finds R, G, B.
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientContext:
    """What a perturbation may know about the patient.

    Attributes:
        direction: Drawn for this patient and perturbation: -1 or 1 for each of R, G, B.
        colour: The patient's mean and s.d. of R, G, B over all pixels, [6].
        cohort_colour: The same, averaged over the patients of the cohort, [6].
    """

    direction: npt.NDArray[np.int64]
    colour: FloatArray
    cohort_colour: FloatArray

    @property
    def sign(self) -> int:
        """-1 or 1."""
        return int(self.direction[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One change.

    Attributes:
        name: Of the change.
        amount: In words, with units.
        apply: Changes an image, [S, S, 3] RGB.
        is_colour: Whether it changes colour only, and leaves form as it is.
    """

    name: str
    amount: str
    apply: Callable[[RgbImage, PatientContext], RgbImage]
    is_colour: bool


def draw_direction(patient_id: str, perturbation: str, *, seed: int) -> npt.NDArray[np.int64]:
    """Draw a patient's direction for a perturbation: whatever else is drawn, always the same."""
    key = zlib.crc32(f"{patient_id}\0{perturbation}".encode())
    directions: npt.NDArray[np.int64] = np.random.default_rng([seed, key]).choice([-1, 1], size=3)
    return directions


def rotate_hue(image: RgbImage, degrees: float) -> RgbImage:
    """Turn every colour about the grey axis; grey stays grey, and the sum of R, G, B."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle) / np.sqrt(3)
    third = (1 - cos) / 3
    matrix = np.array(
        [
            [cos + third, third - sin, third + sin],
            [third + sin, cos + third, third - sin],
            [third - sin, third + sin, cos + third],
        ]
    )
    return to_pixels(image @ matrix.T)


def scale_saturation(image: RgbImage, factor: float) -> RgbImage:
    """Move every colour away from its grey, or towards it."""
    grey = (image @ LUMA)[..., None]
    return to_pixels(grey + factor * (image - grey))


def scale_brightness(image: RgbImage, factor: float) -> RgbImage:
    """Multiply every channel."""
    return to_pixels(image * factor)


def tint_background(image: RgbImage, gains: npt.NDArray[np.floating]) -> RgbImage:
    """Multiply the channels where the image is bright, and little where it is dark."""
    brightness = image @ LUMA
    weight = np.clip(brightness / max(np.percentile(brightness, 95), 1.0), 0, 1)[..., None] ** 4
    return to_pixels(image * (1 + weight * (gains - 1)))


def blur(image: RgbImage, sigma_px: float) -> RgbImage:
    """Blur by a Gaussian."""
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))


def compress_jpeg(image: RgbImage, quality: int) -> RgbImage:
    """Write as JPEG with halved chroma, and read again."""
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    decoded: RgbImage = simplejpeg.decode_jpeg(data)
    return decoded


def magnify(image: RgbImage, factor: float) -> RgbImage:
    """Magnify about the centre; what comes in from outside mirrors the border."""
    size = image.shape[0]
    new_size = max(round(size * factor), 1)
    picture = Image.fromarray(image).resize((new_size,) * 2, Image.Resampling.BICUBIC)
    resized: RgbImage = np.array(picture)
    if new_size >= size:
        start = (new_size - size) // 2
        return resized[start : start + size, start : start + size]
    before = (size - new_size) // 2
    after = size - new_size - before
    padding = ((before, after), (before, after), (0, 0))
    mirrored: RgbImage = np.pad(resized, padding, mode="symmetric")
    return mirrored


_ALL = (
    Perturbation(
        name="cohort_colour",
        amount="each patient's RGB mean and s.d. brought to the cohort's",
        apply=lambda image, patient: match_colour(image, patient.colour, patient.cohort_colour),
        is_colour=True,
    ),
    Perturbation(
        name="hue",
        amount="±10 degrees, direction by patient",
        apply=lambda image, patient: rotate_hue(image, 10 * patient.sign),
        is_colour=True,
    ),
    Perturbation(
        name="saturation",
        amount="x 0.75 or 1.25, by patient",
        apply=lambda image, patient: scale_saturation(image, 1 + 0.25 * patient.sign),
        is_colour=True,
    ),
    Perturbation(
        name="brightness",
        amount="x 0.9 or 1.1, by patient",
        apply=lambda image, patient: scale_brightness(image, 1 + 0.1 * patient.sign),
        is_colour=True,
    ),
    Perturbation(
        name="background_tint",
        amount="R, G, B of the background x 0.95 or 1.05 each, by patient",
        apply=lambda image, patient: tint_background(image, 1 + 0.05 * patient.direction),
        is_colour=True,
    ),
    Perturbation(
        name="blur",
        amount="Gaussian, sigma 1 px",
        apply=lambda image, _: blur(image, 1.0),
        is_colour=False,
    ),
    Perturbation(
        name="jpeg",
        amount="quality 30, chroma halved",
        apply=lambda image, _: compress_jpeg(image, 30),
        is_colour=False,
    ),
    Perturbation(
        name="scale",
        amount="x 0.9 or 1.1, by patient",
        apply=lambda image, patient: magnify(image, 1 + 0.1 * patient.sign),
        is_colour=False,
    ),
)
PERTURBATIONS: Mapping[str, Perturbation] = MappingProxyType({p.name: p for p in _ALL})
