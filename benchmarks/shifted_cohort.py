"""Write a copy of a cohort as another laboratory might have stained and photographed it.

    python -m benchmarks.shifted_cohort COHORT OUT [--seed 0]

Every patient draws one change for all of its cells, whatever its label: hue by up to ±10 degrees,
saturation and brightness by factors, and a tint of the background. What a model has learnt from
the stain of its training patients is worth nothing there; form is as it was. OUT has the layout of
COHORT; damaged files are left out.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg

from aml_mil.cohort import (
    Cell,
    Cohort,
    DamagedImageError,
    Patient,
    decode_image,
    read_cohort,
    read_image_file,
)
from aml_mil.evaluation.perturbations import (
    RgbImage,
    draw_direction,
    rotate_hue,
    scale_brightness,
    scale_saturation,
    tint_background,
)
from aml_mil.runtime import count_cores

JPEG_QUALITY = 95
MAX_HUE_DEGREES = 10.0
MAX_LOG_SATURATION = 0.3
MAX_LOG_BRIGHTNESS = 0.12
MAX_TINT = 0.05


def draw_shift(patient_id: str, *, seed: int) -> Callable[[RgbImage], RgbImage]:
    """Draw a patient's change; a direction for each part, and half to all of its largest size."""
    sides = [int(draw_direction(patient_id, part, seed=seed)[0]) for part in ("h", "s", "b")]
    tint = draw_direction(patient_id, "tint", seed=seed)
    key = int.from_bytes(patient_id.encode(), "little") % 2**63
    hue, saturation, brightness = sides * np.random.default_rng([seed, key]).uniform(0.5, 1, size=3)

    def shift(image: RgbImage) -> RgbImage:
        image = rotate_hue(image, MAX_HUE_DEGREES * hue)
        image = scale_saturation(image, float(np.exp(MAX_LOG_SATURATION * saturation)))
        image = scale_brightness(image, float(np.exp(MAX_LOG_BRIGHTNESS * brightness)))
        return tint_background(image, 1 + MAX_TINT * tint)

    return shift


def write_shifted(cohort: Cohort, out: Path, *, seed: int) -> int:
    """Write all patients, changed.

    Returns:
        Number of images written.
    """
    written = 0
    with ThreadPoolExecutor(count_cores()) as pool:
        for patient in cohort.patients:
            shift = draw_shift(patient.patient_id, seed=seed)
            folder = out / "data" / str(patient.label) / patient.patient_id
            written += sum(pool.map(partial(_write, folder, shift), patient.cells))
    _write_tables(cohort.patients, out)
    return written


def _write(folder: Path, shift: Callable[[RgbImage], RgbImage], cell: Cell) -> bool:
    try:
        image = shift(decode_image(read_image_file(cell.path)))
    except DamagedImageError:
        return False
    path = (folder / cell.instance_id).with_suffix(".jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(image),
            quality=JPEG_QUALITY,
            colorspace="RGB",
            colorsubsampling="444",
        )
    )
    return True


def _write_tables(patients: Sequence[Patient], out: Path) -> None:
    with (out / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient_id", "bag_label"])
        rows.writerows([p.patient_id, p.label] for p in patients)
    with (out / "cell_annotations.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient_id", "image", "cell_type"])
        for patient in patients:
            for cell in patient.cells:
                if cell.cell_type:
                    name = Path(cell.instance_id).with_suffix(".jpg").as_posix()
                    rows.writerow([patient.patient_id, name, cell.cell_type])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the copy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (options.out / "metadata.csv").exists():
        parser.error(f"{options.out} holds a cohort already; name another folder")
    count = write_shifted(read_cohort(options.cohort), options.out, seed=options.seed)
    print(f"{count} images in {options.out}")


if __name__ == "__main__":
    main()
