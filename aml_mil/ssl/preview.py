"""A picture of the views that a method is given."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aml_mil.files import write_file
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.views import Views

GAP_PX = 4
WHITE = 255


def preview_views(path: Path, pool: ImagePool, views: Views, *, cells: Sequence[int]) -> None:
    """Draw a row for each cell: the image itself, then its crops as the first epoch sees them.

    Args:
        path: Ends in .png.
        pool: Images.
        views: Of the method.
        cells: Numbers of the cells.
    """
    rows = [[pool.image(cell), *views(pool.image(cell), epoch=0, cell=cell)] for cell in cells]
    side = max(image.shape[0] for row in rows for image in row) + GAP_PX
    canvas = np.full((len(rows) * side, len(rows[0]) * side, 3), WHITE, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            _paste(canvas, image, top=i * side, left=j * side)
    png = io.BytesIO()
    Image.fromarray(canvas).save(png, format="png")
    write_file(path, png.getvalue())


def _paste(canvas: NDArray[np.uint8], image: NDArray[np.uint8], *, top: int, left: int) -> None:
    height, width = image.shape[:2]
    canvas[top : top + height, left : left + width] = image
