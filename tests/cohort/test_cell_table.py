from pathlib import Path

import pytest

from aml_mil.cohort import CohortError, read_cohort

TABLE = (
    "patient_id,image_path,label,cell_type,x_um,y_um,age,note\n"
    'P2,img/a10.tif,AML,blast,"1,5",2,60,x\n'
    "P2,img/a9.tif,AML,,,,60,y\n"
    "P10,b\\c.tif,,blast,,,61,x\n"
)


@pytest.fixture
def table(tmp_path: Path, tiny_tif: bytes) -> Path:
    for name in ("img/a10.tif", "img/a9.tif", "b/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tiny_tif)
    path = tmp_path / "cells.csv"
    path.write_text(TABLE)
    return path


def test_patients_cells_types_and_coordinates_are_read(table: Path) -> None:
    first, second = read_cohort(table).patients
    assert (first.patient_id, first.label) == ("P2", "AML")
    assert [c.instance_id for c in first.cells] == ["img/a9.tif", "img/a10.tif"]
    assert [c.coords for c in first.cells] == [None, (1.5, 2.0)]
    assert [c.cell_type for c in first.cells] == ["", "blast"]
    assert (second.patient_id, second.label) == ("P10", None)
    assert second.cells[0].path.is_file()


def test_columns_that_agree_within_patients_become_attributes(table: Path) -> None:
    cohort = read_cohort(table)
    assert [p.attributes for p in cohort.patients] == [{"age": 60}, {"age": 61}]
    assert cohort.notes == (
        "columns of cells.csv that differ within patients are ignored: note (1)",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label,", "class,", "columns missing in .*: label"),
        ("img/a9.tif,AML", "img/a9.tif,APL", "one label for patient P2 .*, got AML, APL"),
        ("img/a9.tif", "img/a10.tif", "image img/a10.tif of patient P2 stands twice"),
        ("img/a9.tif", "img/gone.tif", r"but not there: img/gone.tif \(1 of 3\)"),
        ("img/a9.tif", "img/a9.webp", "not tif, jpeg, png or bmp: img/a9.webp"),
        ("P10", "", "rows without a patient_id or image_path .*: 3 "),
        ('"1,5",2', '"1,5",', "expected x_um and y_um as numbers .*, got 1.5, None"),
    ],
)
def test_a_table_that_contradicts_itself_is_an_error(
    table: Path, old: str, new: str, message: str
) -> None:
    table.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(CohortError, match=message):
        read_cohort(table)
