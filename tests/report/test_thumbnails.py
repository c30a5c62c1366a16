import os
from pathlib import Path

import pytest

from aml_mil.cohort import read_cohort
from aml_mil.cohort.images import MAX_FILE_BYTES
from aml_mil.report.thumbnails import Thumbnails
from tests.evaluation.cohorts import draw_cohort


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "far too large"])
def test_what_is_no_image_gives_no_picture(kind: str, tmp_path: Path) -> None:
    folder = draw_cohort(tmp_path / "cohort", label_is="tint", num_patients=2)
    thumbnails = Thumbnails(read_cohort(folder))
    assert thumbnails.picture("P00", "image_0.png", side_px=16).startswith("data:image/webp;")
    (path,) = folder.rglob("P00/image_0.png")
    if kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:  # a whole picture, and then a hole
        os.truncate(path, MAX_FILE_BYTES + 1)
    assert thumbnails.picture("P00", "image_0.png", side_px=16) == ""
    assert thumbnails.num_missing == 1
