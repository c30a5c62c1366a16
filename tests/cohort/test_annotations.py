from collections.abc import Callable
from pathlib import Path

from aml_mil.cohort import read_cohort

Build = Callable[..., Path]

METADATA = "patient_id,bag_label\nUVT,NPM1\nSBY,control\n"
FILES = {
    "NPM1/UVT": ["image_3.tif", "image_103.tif", "image_104.tif"],
    "control/SBY": ["000.TIF", "s1/image_7.tif", "s2/image_7.tif"],
}


def types_of(root: Path) -> dict[str, str]:
    cohort = read_cohort(root)
    return {
        f"{p.patient_id}/{c.instance_id}": c.cell_type
        for p in cohort.patients
        for c in p.cells
        if c.cell_type
    }


def test_the_published_table_joins_by_image_number(mll: Build) -> None:
    master = (
        ",mll_annotation,prediction,ID,im_tiffname\n"
        "0,myeloblast,x,UVT,103.TIF\n"
        '1,"atypical promyelocyte, bilobed",x,UVT,003.TIF\n'
        "2,monocyte,x,SBY,000.TIF\n"
    )
    root = mll(FILES, {"metadata.csv": METADATA, "image_annotation_master.csv": master})
    assert types_of(root) == {
        "UVT/image_103.tif": "myeloblast",
        "UVT/image_3.tif": "atypical promyelocyte, bilobed",
        "SBY/000.TIF": "monocyte",
    }
    assert "cell types: 3 of 3 rows of image_annotation_master.csv join" in read_cohort(root).notes


def test_our_own_table_joins_by_path_name_or_number(mll: Build) -> None:
    table = (
        "patient_id,image,cell_type\n"
        "SBY,s2/image_7.tif,blast\nUVT,IMAGE_104.TIF,monocyte\nUVT,image_3,normo\n"
    )
    root = mll(FILES, {"metadata.csv": METADATA, "cell_annotations.csv": table})
    assert types_of(root) == {
        "SBY/s2/image_7.tif": "blast",
        "UVT/image_104.tif": "monocyte",
        "UVT/image_3.tif": "normo",
    }


def test_rows_that_fit_no_cell_or_several_are_counted_and_named(mll: Build) -> None:
    table = (
        "patient_id,image,cell_type\n"
        "SBY,image_7.tif,blast\nUVT,999.TIF,blast\nXXX,image_3.tif,blast\nUVT,103.TIF,blast\n"
    )
    root = mll(FILES, {"metadata.csv": METADATA, "cell_annotations.csv": table})
    notes = read_cohort(root).notes
    assert notes == (
        "cell types: 1 of 4 rows of cell_annotations.csv join",
        "rows of cell_annotations.csv that fit no cell, or several: "
        "SBY/image_7.tif, UVT/999.TIF, XXX/image_3.tif (3)",
    )


def test_contradictory_rows_leave_a_cell_without_a_type(mll: Build) -> None:
    table = (
        "patient_id,image,cell_type\n"
        "UVT,103.TIF,blast\nUVT,image_103.tif,monocyte\nUVT,3.TIF,blast\nUVT,3.TIF,blast\n"
    )
    root = mll(FILES, {"metadata.csv": METADATA, "cell_annotations.csv": table})
    assert types_of(root) == {"UVT/image_3.tif": "blast"}
    assert any("contradictory" in note for note in read_cohort(root).notes)


def test_an_exact_name_wins_over_a_number(mll: Build) -> None:
    files = {"NPM1/UVT": ["image_1.tif", "1.tif"]}
    table = "patient_id,image,cell_type\nUVT,1.tif,blast\nUVT,image_1.tif,monocyte\n"
    tables = {"metadata.csv": "patient_id,bag_label\nUVT,NPM1\n", "cell_annotations.csv": table}
    assert types_of(mll(files, tables)) == {"UVT/1.tif": "blast", "UVT/image_1.tif": "monocyte"}
