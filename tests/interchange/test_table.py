"""One CSV with a row an instance."""

from pathlib import Path

import numpy as np
import pytest

from stores import open_store
from stores.interchange import SourceError
from stores.interchange.table import export_table
from tests.interchange.layouts import bags_of, bring_in, write_table


def test_bags_are_gathered_wherever_their_rows_stand(tmp_path: Path) -> None:
    rows = [("b", "1", 0.1, -2), ("a", "0", 1e-30, 3), ("b", "1", 7, 1e300)]
    table = write_table(tmp_path / "t.csv", ("bag", "label", "f1", "f2"), *rows)
    assert bring_in("table", table, tmp_path / "out.zarr") == []
    bags = bags_of(tmp_path / "out.zarr")
    np.testing.assert_array_equal(bags["b"].features, [[0.1, -2], [7, 1e300]])
    assert bags["b"].features.dtype == np.float64
    assert (bags["a"].label, bags["b"].label) == ("0", "1")


def test_named_columns_are_features_but_the_instances_own(tmp_path: Path) -> None:
    header = ("cell_type", "patient_id", "x", "area", "y", "bag_label", "image", "round ness")
    rows = [("blast", "p", 1, 9.5, 2, "AML", "i0", 1), ("", "p", 3, 8.5, 4, "AML", "i1", 2)]
    table = write_table(tmp_path / "t.csv", header, *rows)
    bring_in("table", table, tmp_path / "out.zarr", dtype="float32")
    bag = bags_of(tmp_path / "out.zarr")["p"]
    np.testing.assert_array_equal(bag.features, np.array([[9.5, 1], [8.5, 2]], np.float32))
    np.testing.assert_array_equal(bag.coords, [[1, 2], [3, 4]])
    assert bag.instance_ids == ("i0", "i1")
    assert bag.instance_labels == ("blast", "")
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.numerics["feature_names"] == ["area", "round ness"]
        assert store.manifest.dtype == "float32"
        (exported,) = export_table(store, tmp_path / "back.csv")
    assert exported.notes == ("left out: instance_labels, coords, instance_ids",)
    assert (tmp_path / "back.csv").read_text().splitlines()[0] == "bag,label,area,round ness"


def test_a_missing_number_takes_its_row_out(tmp_path: Path) -> None:
    rows = [("a", "1", 1, ""), ("a", "1", 3, 4), ("b", "", 5, 6)]
    table = write_table(tmp_path / "t.csv", ("bag", "label", "f1", "f2"), *rows)
    findings = bring_in("table", table, tmp_path / "out.zarr")
    assert [str(finding) for finding in findings] == [
        "b: no label: the field is empty",
        "a: features of rows 0 (1 of 2) are NaN or infinite; left out",
    ]
    np.testing.assert_array_equal(bags_of(tmp_path / "out.zarr")["a"].features, [[3, 4]])


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (("bag", "label", "f1"), [("a", "0", 1), ("a", "1", 2)], "line 3: bag 'a' has two labels"),
        (("bag", "label", "f1"), [("a", "0", "x")], "line 2: f1 is 'x', expected a number"),
        (("bag", "label", "f1"), [("", "0", 1)], "line 2 has no bag"),
        (("bag", "label"), [("a", "0")], "has no column of features beside bag, label"),
        (("bag", "f1"), [("a", 1)], "has no column label or bag_label for the labels"),
        (("bag", "label", "f1", "f1"), [("a", 0, 1, 2)], "its columns f1 occur twice"),
        (("bag", "patient_id", "label", "f1"), [("a", "a", 0, 1)], "several columns for the bags"),
        (("", "bag", "label", "f1"), [(0, "a", 0, 1)], "column 1 has no name"),
        (("bag", "label", "f1"), [], "holds no bag with an instance"),
    ],
)
def test_tables_that_are_not_clear_are_refused(
    tmp_path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]], message: str
) -> None:
    table = write_table(tmp_path / "t.csv", header, *rows)
    with pytest.raises(SourceError, match=message):
        bring_in("table", table, tmp_path / "out.zarr")


def test_twice_the_same_instance_id_is_refused(tmp_path: Path) -> None:
    rows = [("a", "0", "i", 1), ("a", "0", "i", 2)]
    table = write_table(tmp_path / "t.csv", ("bag", "label", "instance_id", "f1"), *rows)
    with pytest.raises(Exception, match="instance ids occur twice: i") as caught:
        bring_in("table", table, tmp_path / "out.zarr")
    assert type(caught.value).__name__ == "InvalidBagError"
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
