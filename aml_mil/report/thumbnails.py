"""Small pictures of cells as data URIs, read from a cohort."""

import base64
import io

from PIL import Image

from aml_mil.cohort import Cohort, DamagedImageError, decode_image, fit_image, read_image_file

QUALITY = 72


class Thumbnails:
    """Pictures of a cohort's cells.

    Args:
        cohort: The images; None where there are none, which makes every picture "".
    """

    def __init__(self, cohort: Cohort | None) -> None:
        self._paths = {
            (patient.patient_id, cell.instance_id): cell.path
            for patient in (cohort.patients if cohort else ())
            for cell in patient.cells
        }
        self.num_missing = 0

    def picture(self, patient_id: str, instance_id: str, *, side_px: int) -> str:
        """Return a cell as a WebP data URI; "" where the file is not there or no image.

        Args:
            patient_id: The patient.
            instance_id: The cell.
            side_px: Width and height.
        """
        path = self._paths.get((patient_id, instance_id))
        try:
            if path is None:
                raise FileNotFoundError(instance_id)
            image = Image.fromarray(fit_image(decode_image(read_image_file(path)), side_px))
        except (OSError, DamagedImageError):
            self.num_missing += 1
            return ""
        data = io.BytesIO()
        image.save(data, "WEBP", quality=QUALITY)
        return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
