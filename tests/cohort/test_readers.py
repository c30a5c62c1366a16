import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aml_mil.cohort import CohortError, LayoutError, TableError, read_class_folders, read_cohort
from stores import create_store
from tests.stores.samples import SUFFIXES, make_manifest

Build = Callable[..., Path]

METADATA = (
    ",patient_id,sex_1f_2m,age,bag_label,leucocytes_perl,pb_total\n"
    '0,ABF,2,"44,4",NPM1,"13,8",100\n'
    "1,AEC,2,35,control,,103\n"
)
FILES = {
    "NPM1/ABF": ["image_0.tif", "image_2.tif", "image_10.tif"],
    "control/AEC": ["image_0.tif", "image_1.tif"],
}


def with_metadata(build: Build, metadata: str, files: Mapping[str, list[str]] = FILES) -> Path:
    return build(files, {"metadata.csv": metadata})


def test_patients_labels_and_cells_are_read_in_natural_order(mll: Build) -> None:
    cohort = read_cohort(with_metadata(mll, METADATA))
    assert cohort.labels == {"ABF": "NPM1", "AEC": "control"}
    assert cohort.classes == {"NPM1": 1, "control": 1}
    assert cohort.num_cells == 5
    cells = cohort.patients[0].cells
    assert [c.instance_id for c in cells] == ["image_0.tif", "image_2.tif", "image_10.tif"]
    assert all(c.path.is_file() and c.smear == "" and c.cell_type == "" for c in cells)


def test_decimal_commas_are_numbers_and_empty_fields_none(mll: Build) -> None:
    first, second = read_cohort(with_metadata(mll, METADATA)).patients
    assert first.attributes == {
        "sex_1f_2m": 2,
        "age": 44.4,
        "leucocytes_perl": 13.8,
        "pb_total": 100,
    }
    assert second.attributes["leucocytes_perl"] is None


def test_a_long_number_keeps_all_its_digits(mll: Build) -> None:
    table = "patient_id,bag_label,accession\nABF,NPM1,20260112000000123\nAEC,control,\n"
    first, _ = read_cohort(with_metadata(mll, table)).patients
    assert first.attributes["accession"] == 20260112000000123


@pytest.mark.parametrize(
    "encoded",
    [
        METADATA.encode("utf-8-sig"),
        METADATA.replace("leucocytes_perl", "leucocytes_perµl").encode(),
        METADATA.replace("leucocytes_perl", "leucocytes_perµl").encode("latin-1"),
        METADATA.replace("leucocytes_perl", "leucocytes_per\ufffdl").encode(),
        METADATA.encode("utf-16"),
        METADATA.replace("\n", "\r\n").encode(),
        METADATA.replace(",", ";").replace('"44;4"', "44,4").replace('"13;8"', "13,8").encode(),
        METADATA.replace('"44,4"', "44.4").replace('"13,8"', "13.8").replace(",", "\t").encode(),
    ],
    ids=["mark", "micro", "latin-1", "lost micro", "utf-16", "crlf", "semicolon", "tab"],
)
def test_tables_of_any_encoding_and_delimiter_read_the_same(mll: Build, encoded: bytes) -> None:
    cohort = read_cohort(mll(FILES, {"metadata.csv": encoded}))
    assert cohort.patients[0].attributes == {
        "sex_1f_2m": 2,
        "age": 44.4,
        "leucocytes_perl": 13.8,
        "pb_total": 100,
    }


def test_parts_of_the_metadata_are_joined_where_there_is_no_whole(mll: Build) -> None:
    train = "patient_id,bag_label,age\nABF,NPM1,44\n"
    test = ",bag_label,patient_id\n7,control,AEC\n"
    cohort = read_cohort(mll(FILES, {"metadata_train.csv": train, "metadata_test.csv": test}))
    assert cohort.labels == {"ABF": "NPM1", "AEC": "control"}
    assert [p.attributes["age"] for p in cohort.patients] == [44, None]
    assert cohort.notes == ("metadata joined from metadata_test.csv (1), metadata_train.csv (1)",)


def test_the_whole_metadata_is_preferred_to_its_parts(mll: Build) -> None:
    root = mll(FILES, {"metadata.csv": METADATA, "metadata_old.csv": "patient_id\nXXX\n"})
    assert len(read_cohort(root).patients) == 2


def test_folders_below_a_patient_are_smears(mll: Build) -> None:
    names = ["smear_10/image_0.tif", "smear_2/deep, er/image_1.tif", "smear_2/image_0.tif"]
    root = with_metadata(mll, "patient_id,bag_label\nA B,x y\n", {"x y/A B": names})
    cells = read_cohort(root).patients[0].cells
    assert {c.instance_id: c.smear for c in cells} == {
        "smear_2/deep, er/image_1.tif": "smear_2/deep, er",
        "smear_2/image_0.tif": "smear_2",
        "smear_10/image_0.tif": "smear_10",
    }
    assert cells[-1].smear == "smear_10"


def test_every_image_suffix_counts_in_any_case_and_the_rest_is_skipped(mll: Build) -> None:
    images = ["000.TIF", "a.tiff", "b.jpg", "c.JPEG", "d.Png", "e.bmp"]
    others = ["Thumbs.db", ".hidden.tif", ".cache/image_1.tif", "notes.txt", "cell.npy"]
    root = with_metadata(mll, "patient_id,bag_label\nP,x\n", {"x/P": images + others})
    (root / "data" / "x" / "Thumbs.db").touch()
    cohort = read_cohort(root)
    assert [c.instance_id for c in cohort.patients[0].cells] == images
    assert cohort.skipped_files == 6
    assert cohort.notes == (
        "hidden files and files that are no images were skipped: x/Thumbs.db, "
        "P/.cache/image_1.tif, P/.hidden.tif, P/Thumbs.db, P/cell.npy, … (6)",
    )


def test_images_outside_patient_folders_are_skipped_and_named(mll: Build, tiny_tif: bytes) -> None:
    root = with_metadata(mll, METADATA)
    (root / "data" / "NPM1" / "stray.tif").write_bytes(tiny_tif)
    cohort = read_cohort(root)
    assert cohort.skipped_files == 1
    assert cohort.notes == (
        "images that lie in no patient's folder were skipped: NPM1/stray.tif (1)",
    )


def test_a_folder_that_links_to_itself_is_read_once(mll: Build) -> None:
    root = with_metadata(mll, METADATA)
    (root / "data" / "NPM1" / "ABF" / "again").symlink_to(root / "data" / "NPM1" / "ABF")
    assert read_cohort(root).num_cells == 5


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("patient_id,age\nABF,1\n", "columns missing in .*metadata.csv: bag_label .1.; it has"),
        ("patient_id,bag_label\nABF,NPM1\nABF,NPM1\nAEC,control\n", "more than one row .*: ABF"),
        ("patient_id,bag_label\n,NPM1\n", "rows without a patient_id .*: 1 "),
        ("patient_id,bag_label\nABF,\n", "patients without a bag_label .*: ABF"),
        ("patient_id,bag_label\n", "expected a row for each patient .*, got only a header"),
        ("", "expected a header and rows in .*, got an empty file"),
        ("patient_id,bag_label,age\nABF,NPM1,44,4\n", "expected 3 fields .* got 4 in row 1"),
        ("patient_id,bag_label,bag_label\nA,B,C\n", "columns that stand twice .*: bag_label"),
        ('patient_id,bag_label\n"ABF,NPM1\n', "cannot read .* as csv"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(mll: Build, metadata: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_cohort(with_metadata(mll, metadata))


def test_patients_without_a_folder_are_named_five_at_most_and_counted(mll: Build) -> None:
    rows = "".join(f"P{i},NPM1\n" for i in range(7))
    with pytest.raises(LayoutError) as caught:
        read_cohort(with_metadata(mll, METADATA.partition("\n")[0].replace(
            ",patient_id,sex_1f_2m,age,bag_label,leucocytes_perl,pb_total", "patient_id,bag_label"
        ) + "\n" + rows + "ABF,NPM1\nAEC,control\n"))  # fmt: skip
    message = str(caught.value)
    expected = (
        "ids in metadata.csv but without a folder under data/: P0, P1, P2, P3, P4, … (7 of 9)"
    )
    assert expected in message
    assert "\n" not in message


def test_folders_without_a_row_are_named(mll: Build) -> None:
    with pytest.raises(LayoutError, match=r"without a row in metadata.csv: control/AEC \(1 of 1\)"):
        read_cohort(with_metadata(mll, "patient_id,bag_label\nABF,NPM1\n"))


def test_a_patient_under_another_label_is_named_and_not_called_missing(mll: Build) -> None:
    with pytest.raises(LayoutError) as caught:
        read_cohort(with_metadata(mll, METADATA.replace("control", "NPM1")))
    assert "another label: AEC (NPM1 in the table, under control) (1 of 2)" in str(caught.value)
    assert "without a folder" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has one name for both")
def test_two_folders_of_one_name_are_an_error_and_neither_is_lost(mll: Build) -> None:
    """An accent is one character or two, by the system that made the folder."""
    files = {f"AML/Zo{accented}": ["image_0.tif"] for accented in ("\u00e9", "e\u0301")}
    root = with_metadata(mll, "patient_id,bag_label\nZo\u00e9,AML\n", files)
    with pytest.raises(LayoutError, match=r"folders in .*AML of one name.*: Zo\u00e9 \(1\)"):
        read_cohort(root)


def test_an_empty_patient_folder_is_an_error(mll: Build) -> None:
    files = {**FILES, "NPM1/ABF": ["Thumbs.db"]}
    with pytest.raises(LayoutError, match=r"without an image under .*: NPM1/ABF \(1 of 2\)"):
        read_cohort(with_metadata(mll, METADATA, files))


def test_a_missing_table_is_an_error_that_says_what_is_expected(mll: Build) -> None:
    with pytest.raises(LayoutError, match=r"no metadata.csv in .*; expected metadata.csv"):
        read_cohort(mll(FILES, {}))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_feature_store_is_called_one(tmp_path: Path, suffix: str) -> None:
    store = create_store(tmp_path / f"cells{suffix}", make_manifest())
    with pytest.raises(LayoutError, match=r"cells\S+ is a feature store; expected a cohort of im"):
        read_cohort(store.path)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no such file or folder"):
        read_cohort(tmp_path / "nowhere")


def test_ids_cannot_lead_out_of_the_cohort(mll: Build) -> None:
    with pytest.raises(LayoutError, match="without a folder"):
        read_cohort(with_metadata(mll, METADATA.replace("ABF", "../NPM1/ABF")))


def test_class_folders_serve_pretraining_but_are_no_cohort(tmp_path: Path, tiny_tif: bytes) -> None:
    for name in ("blast/1.tif", "blast/10.tif", "blast/2.tif", "monocyte/1.tif", "blast/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tiny_tif)
    with pytest.raises(LayoutError, match=r"images by class but no patients; expected metadata"):
        read_cohort(tmp_path)
    folders = read_class_folders(tmp_path)
    assert [i.image_id for i in folders.images[:3]] == [
        "blast/1.tif",
        "blast/2.tif",
        "blast/10.tif",
    ]
    assert folders.classes == {"blast": 3, "monocyte": 1}
    assert folders.skipped_files == 1


def test_an_empty_class_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "blast").mkdir()
    with pytest.raises(LayoutError, match="classes without: blast"):
        read_class_folders(tmp_path)
