import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_mil.cohort import FoldsError
from aml_mil.ssl.checks import check_patients, choose_sources
from aml_mil.ssl.errors import LabelsMissingError, PretrainError, TooFewImagesError
from aml_mil.ssl.pool import ImageSource, count_types, find_sources, read_pool
from aml_mil.ssl.simclr import SimclrConfig
from aml_mil.ssl.supervised import SupervisedConfig


def test_images_are_kept_in_memory_or_read_each_time_with_the_same_result(
    sources: tuple[ImageSource, ...],
) -> None:
    resident = read_pool(sources, side_px=32, max_bytes=24 * 32 * 32 * 3)
    streamed = read_pool(sources, side_px=32, max_bytes=24 * 32 * 32 * 3 - 1)
    assert resident.resident is not None
    assert streamed.resident is None
    for index in range(24):
        np.testing.assert_array_equal(resident.image(index), streamed.image(index))
        np.testing.assert_array_equal(
            resident.image(index), np.array(Image.open(sources[index].path))
        )


def test_damaged_files_are_left_out_and_named(sources: tuple[ImageSource, ...]) -> None:
    sources[5].path.write_bytes(sources[5].path.read_bytes()[:200])
    pool = read_pool(sources, side_px=32, max_bytes=2**20)
    assert len(pool) == 23
    assert [name for name, _ in pool.damaged] == ["P1/image_5.png"]
    assert sources[5] not in pool.sources
    np.testing.assert_array_equal(pool.image(5), np.array(Image.open(sources[6].path)))


def test_pictures_that_are_not_square_are_cut_to_squares(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "wide.png")
    wide = ImageSource(image_id="wide", path=tmp_path / "wide.png", patient_id="P", cell_type="")
    assert read_pool([wide], side_px=32, max_bytes=2**20).image(0).shape == (32, 32, 3)


def test_patients_are_recorded_and_unknown_ones_are_unknown(
    sources: tuple[ImageSource, ...],
) -> None:
    assert read_pool(sources, side_px=32, max_bytes=2**20).trained_on == ("P0", "P1", "P2", "P3")
    orphans = [dataclasses.replace(source, patient_id="") for source in sources]
    assert read_pool(orphans, side_px=32, max_bytes=2**20).trained_on is None


def make_cohort(root: Path) -> Path:
    rows = []
    for patient in ("A", "B"):
        folder = root / "data" / "APL" / patient
        folder.mkdir(parents=True)
        rows.append(f"{patient},APL")
        for i in range(3):
            Image.new("RGB", (32, 32), "red").save(folder / f"image_{i}.png")
    (root / "metadata.csv").write_text("patient_id,bag_label\n" + "\n".join(rows) + "\n")
    return root


def test_only_the_wanted_patients_are_read(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path)
    assert {s.patient_id for s in find_sources(cohort)} == {"A", "B"}
    assert [s.image_id for s in find_sources(cohort, patients=["B"])] == [
        f"B/image_{i}.png" for i in range(3)
    ]


def test_class_folders_give_types_but_no_patients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("blast", "monocyte"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), "red").save(tmp_path / name / "image_0.png")
    (tmp_path / "blast" / "cell.npy").touch()
    with caplog.at_level("WARNING"):
        found = find_sources(tmp_path)
    assert f"{tmp_path}: 1 files are no images: skipped" in caplog.text
    assert count_types(found) == {"blast": 1, "monocyte": 1}
    assert {source.patient_id for source in found} == {""}
    with pytest.raises(PretrainError, match="folds cannot be applied"):
        find_sources(tmp_path, patients=["A"])


def test_fewer_images_than_a_batch_are_refused(sources: tuple[ImageSource, ...]) -> None:
    with pytest.raises(TooFewImagesError, match="24 images do not fill one batch of 25"):
        choose_sources(sources, SimclrConfig(batch_size=25))
    assert choose_sources(sources, SimclrConfig(batch_size=24)) == sources


def test_supervised_training_takes_annotated_cells_only(sources: tuple[ImageSource, ...]) -> None:
    mixed = (dataclasses.replace(sources[0], cell_type=""), *sources[1:])
    assert choose_sources(mixed, SupervisedConfig(batch_size=4)) == sources[1:]


def test_supervised_training_without_labels_says_what_is_missing(
    sources: tuple[ImageSource, ...],
) -> None:
    unlabelled = tuple(dataclasses.replace(source, cell_type="") for source in sources)
    with pytest.raises(LabelsMissingError, match=r"cell_annotations\.csv"):
        choose_sources(unlabelled, SupervisedConfig(batch_size=4))


def test_folds_of_another_cohort_are_refused(sources: tuple[ImageSource, ...]) -> None:
    check_patients(sources, ["P0", "P1"])
    with pytest.raises(FoldsError, match="X9"):
        check_patients(sources, ["P0", "X9"])
