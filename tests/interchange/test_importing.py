"""Rules that hold for every neighbour, shown on folders with one file a bag."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aml_mil.interchange import open_source
from stores import StoreError, StoreExistsError, create_store, open_store, verify_store
from stores.interchange import InterchangeUsageError, SourceError, import_source, manifest_for
from tests.interchange.layouts import bags_of, bring_in, features, write_table


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three bags of 2, 3 and 4 instances with labels."""
    path = tmp_path / "source"
    path.mkdir()
    for i, name in enumerate(("a", "b", "c")):
        np.save(path / f"{name}.npy", features(2 + i, seed=i))
    write_table(
        path / "labels.csv",
        ("bag_id", "label", "age"),
        ("a", "x", 1),
        ("b", "y", ""),
        ("c", "x", 3),
    )
    return path


@pytest.mark.parametrize("suffix", [".zarr", ".h5store"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_bit_dtype_label_and_attribute_arrives(
    source: Path, tmp_path: Path, suffix: str, dtype: str
) -> None:
    for i, name in enumerate(("a", "b", "c")):
        np.save(source / f"{name}.npy", features(2 + i, seed=i, dtype=dtype))
    out = tmp_path / f"out{suffix}"
    assert bring_in("bags", source, out) == []
    bags = bags_of(out)
    for i, (name, label) in enumerate((("a", "x"), ("b", "y"), ("c", "x"))):
        assert bags[name].features.dtype == dtype
        assert bags[name].features.tobytes() == features(2 + i, seed=i, dtype=dtype).tobytes()
        assert bags[name].label == label
        assert bags[name].instance_ids == tuple(map(str, range(2 + i)))
        assert bags[name].colour is None
    assert (bags["a"].attributes, bags["b"].attributes) == ({"age": "1"}, {})
    with open_store(out) as store:
        assert [record.error for record in verify_store(store)] == [None] * 3


def test_big_endian_files_keep_their_values(source: Path, tmp_path: Path) -> None:
    np.save(source / "a.npy", features(2, seed=0).astype(">f4"))
    assert bring_in("bags", source, tmp_path / "out.zarr") == []
    assert bags_of(tmp_path / "out.zarr")["a"].features.tobytes() == features(2).tobytes()


def test_rows_that_are_not_finite_are_left_out_and_named(source: Path, tmp_path: Path) -> None:
    values = features(4, seed=2)
    values[1, 0], values[3, 2] = np.nan, np.inf
    np.save(source / "c.npy", values)
    (finding,) = bring_in("bags", source, tmp_path / "out.zarr")
    assert str(finding) == "c: features of rows 1, 3 (2 of 4) are NaN or infinite; left out"
    bag = bags_of(tmp_path / "out.zarr")["c"]
    np.testing.assert_array_equal(bag.features, values[[0, 2]])
    assert bag.instance_ids == ("0", "2")
    assert [item.file for item in bag.quarantined] == ["1", "3"]


def test_empty_bags_are_left_out_and_named(source: Path, tmp_path: Path) -> None:
    np.save(source / "a.npy", np.empty((0, 3), np.float32))
    np.save(source / "b.npy", np.full((2, 3), np.nan, np.float32))
    findings = bring_in("bags", source, tmp_path / "out.zarr")
    assert Counter(finding.bag_id for finding in findings) == {"a": 1, "b": 2}
    assert "no instances; left out" in findings[0].problem
    assert set(bags_of(tmp_path / "out.zarr")) == {"c"}


def test_bags_without_a_label_are_kept_and_named(source: Path, tmp_path: Path) -> None:
    write_table(source / "labels.csv", ("bag_id", "label"), ("a", "x"), ("b", ""))
    findings = bring_in("bags", source, tmp_path / "out.zarr")
    assert [str(finding) for finding in findings] == [
        "b: no label: it is empty in labels.csv",
        "c: no label: it is missing in labels.csv",
    ]
    assert [bag.label for bag in bags_of(tmp_path / "out.zarr").values()] == ["x", None, None]


def test_a_dtype_is_only_widened_and_that_is_said(source: Path, tmp_path: Path) -> None:
    half = features(3, seed=1, dtype="float16")
    np.save(source / "b.npy", half)
    np.save(source / "c.npy", np.array([[-128, 0, 127]], np.int8))
    findings = bring_in("bags", source, tmp_path / "out.zarr")
    assert [str(finding) for finding in findings] == [
        "b: features widened from float16 to float32",
        "c: features widened from int8 to float32",
    ]
    np.testing.assert_array_equal(bags_of(tmp_path / "out.zarr")["b"].features, half)


@pytest.mark.parametrize("values", [np.ones((2, 3), np.int64), np.ones((2, 3), np.complex64)])
def test_types_no_store_can_hold_are_refused(
    source: Path, tmp_path: Path, values: np.ndarray
) -> None:
    np.save(source / "b.npy", values)
    with pytest.raises(SourceError, match=r"b\.npy: the features are (int64|complex64), expected"):
        bring_in("bags", source, tmp_path / "out.zarr")


def test_bags_of_another_width_are_refused_and_named(source: Path, tmp_path: Path) -> None:
    np.save(source / "b.npy", features(3, 5))
    with pytest.raises(SourceError, match=r"shape \(3,\) but \(5,\) in b \(1 of 3\)"):
        bring_in("bags", source, tmp_path / "out.zarr")


def test_labels_of_unknown_bags_are_refused_unless_allowed(source: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "other.csv", ("bag_id", "label"), *[(n, "x") for n in "abcd"])
    with pytest.raises(SourceError, match=r"bags that are not there: d \(1 of 4\)"):
        bring_in("bags", source, tmp_path / "out.zarr", labels=table)
    (finding,) = bring_in(
        "bags", source, tmp_path / "out.zarr", labels=table, allow_unknown_labels=True
    )
    assert finding.bag_id == "d"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("a", "y")], "line 3: bag_id 'a' occurs twice"),
        ([("", "x")], "line 2 has no bag_id"),
        ([("a", "x", "more")], "line 2 has 3 fields, expected 2"),
    ],
)
def test_tables_with_bad_rows_are_refused_by_line(
    source: Path, tmp_path: Path, rows: list[tuple[str, ...]], message: str
) -> None:
    write_table(source / "labels.csv", ("bag_id", "label"), *rows)
    with pytest.raises(SourceError, match=message):
        bring_in("bags", source, tmp_path / "out.zarr")


def test_a_column_of_another_name_is_used_only_when_named(source: Path, tmp_path: Path) -> None:
    (source / "labels.csv").unlink()
    rows = [(n, f"is {n}", n) for n in "abc"]
    table = write_table(tmp_path / "t.csv", ("who", "what", "else"), *rows)
    with pytest.raises(SourceError, match="has no column bag_id or bag or patient_id or slide_id"):
        bring_in("bags", source, tmp_path / "out.zarr", labels=table)
    bring_in(
        "bags", source, tmp_path / "out.zarr", labels=table, id_column="who", label_column="what"
    )
    assert bags_of(tmp_path / "out.zarr")["b"].label == "is b"


def test_two_tables_in_the_source_are_not_chosen_between(source: Path, tmp_path: Path) -> None:
    write_table(source / "labels2.csv", ("bag_id", "label"), ("a", "z"))
    with pytest.raises(SourceError, match=r"several tables .* labels\.csv, labels2\.csv"):
        bring_in("bags", source, tmp_path / "out.zarr")


def test_strict_refuses_what_would_be_reported(source: Path, tmp_path: Path) -> None:
    np.save(source / "c.npy", np.full((2, 3), np.nan, np.float32))
    with pytest.raises(SourceError, match="strict import: c: features of rows 0, 1"):
        bring_in("bags", source, tmp_path / "out.zarr", strict=True)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_bad_data_in_the_last_bag_leaves_nothing(source: Path, tmp_path: Path) -> None:
    opened = open_source("bags", source)
    data = (source / "c.npy").read_bytes()
    (source / "c.npy").write_bytes(data[:-5])
    records = import_source(opened, tmp_path / "out.zarr")
    assert [next(records).bag_id, next(records).bag_id] == ["a", "b"]
    with pytest.raises(SourceError, match=r"c\.npy cannot be read"):
        next(records)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_an_interrupted_import_is_invisible_and_taken_up_again(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    records = import_source(open_source("bags", source), out)
    next(records), next(records)
    records.close()
    assert not out.exists()
    (hidden,) = (path for path in tmp_path.iterdir() if path.name.startswith("."))
    kept = (hidden / "bags" / "a").stat().st_ino
    np.save(source / "b.npy", features(3, seed=9))  # changed meanwhile
    assert bring_in("bags", source, out) == []
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out.zarr"}
    assert (out / "bags" / "a").stat().st_ino == kept
    np.testing.assert_array_equal(bags_of(out)["b"].features, features(3, seed=9))


def test_leftovers_of_another_import_do_not_mix_in(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    for name in ("uni", None):
        records = import_source(open_source("bags", source), out, encoder_name=name)
        next(records)
        records.close()
    (source / "a.npy").rename(source / "d.npy")
    bring_in("bags", source, out, allow_unknown_labels=True)
    with open_store(out) as store:
        assert (store.manifest.encoder, store.bag_ids) == ("unknown", ("b", "c", "d"))


def test_a_second_import_at_the_same_time_is_refused(source: Path, tmp_path: Path) -> None:
    first = import_source(open_source("bags", source), tmp_path / "out.zarr")
    next(first)
    with pytest.raises(StoreError, match="another process is writing"):
        bring_in("bags", source, tmp_path / "out.zarr")
    assert sum(1 for _ in first) == 2
    assert len(bags_of(tmp_path / "out.zarr")) == 3


def test_what_is_there_is_never_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(StoreExistsError, match=r"out\.zarr is there already"):
        bring_in("bags", source, tmp_path / "out.zarr")
    with pytest.raises(ValueError, match=r"ends in \.zarr or \.h5store"):
        bring_in("bags", source, tmp_path / "out.npz")


def test_an_option_without_effect_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InterchangeUsageError, match="prefix has no effect on bags"):
        bring_in("bags", source, tmp_path / "out.zarr", prefix="fnl34_")


def test_the_encoders_name_shape_and_dtype_decide_which_stores_are_alike(
    source: Path, tmp_path: Path
) -> None:
    source.rename(tmp_path / "elsewhere")
    opened = open_source("bags", tmp_path / "elsewhere")
    uni = manifest_for(opened, encoder_name="uni")
    (tmp_path / "elsewhere").rename(source)
    again = manifest_for(open_source("bags", source), encoder_name="uni")
    assert uni.weights != again.weights
    assert uni.identity_sha256 == again.identity_sha256
    assert manifest_for(opened).identity_sha256 != uni.identity_sha256
    assert manifest_for(opened, encoder_name="uni2").weights_sha256 != uni.weights_sha256
    assert (uni.numerics["importer"], again.numerics["source"]) == ("bags", "source")
    with create_store(tmp_path / "s.zarr", uni) as store:
        assert store.manifest.trained_on is None
