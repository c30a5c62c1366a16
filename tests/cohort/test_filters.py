from collections.abc import Callable
from pathlib import Path

import pytest

from aml_mil.cohort import FilterError, read_cohort

METADATA = (
    "patient_id,bag_label,pb_myeloblast,pb_promyelocyte,pb_myelocyte\n"
    'A,NPM1,18,1,1\nB,NPM1,19,0,"0,9"\nC,CBFB,90,,0\nD,control,0,0,0\nE,PML,0,80,0\n'
)


@pytest.fixture
def root(mll: Callable[..., Path]) -> Path:
    folders = ("NPM1/A", "NPM1/B", "CBFB/C", "control/D", "PML/E")
    return mll({f: ["image_0.tif"] for f in folders}, {"metadata.csv": METADATA})


def test_aml_patients_below_the_threshold_are_dropped_and_healthy_ones_never(root: Path) -> None:
    cohort = read_cohort(root, min_malignant_percent=20)
    assert list(cohort.labels) == ["A", "C", "D", "E"]
    assert cohort.notes == (
        "min_malignant_percent 20: dropped 1 of 4 AML patients: B (1)",
        "kept for want of a differential count: C (1)",
    )


def test_the_filter_needs_its_columns(root: Path) -> None:
    (root / "metadata.csv").write_text(METADATA.replace("pb_myelocyte", "other"))
    with pytest.raises(FilterError, match=r"missing in the metadata of .*: pb_myelocyte \(1\)"):
        read_cohort(root, min_malignant_percent=20)


def test_the_filter_needs_numbers(root: Path) -> None:
    (root / "metadata.csv").write_text(METADATA.replace("18", "many"))
    with pytest.raises(FilterError, match="number in pb_myeloblast of patient A, got 'many'"):
        read_cohort(root, min_malignant_percent=20)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_threshold_that_is_no_percentage_is_an_error(root: Path, percent: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        read_cohort(root, min_malignant_percent=percent)


def test_classes_keep_only_their_patients(root: Path) -> None:
    assert read_cohort(root, classes=["NPM1", "control"]).classes == {"NPM1": 2, "control": 1}


def test_labels_are_merged(root: Path) -> None:
    merge = {"NPM1": "AML", "CBFB": "AML", "PML": "AML"}
    assert read_cohort(root, merge_labels=merge).classes == {"AML": 4, "control": 1}


@pytest.mark.parametrize("classes", [["AML", "control"], ["NPM1", "CBFB", "control"]])
def test_classes_may_be_named_before_or_after_merging(root: Path, classes: list[str]) -> None:
    cohort = read_cohort(root, classes=classes, merge_labels={"NPM1": "AML", "CBFB": "AML"})
    assert cohort.classes == {"AML": 3, "control": 1}


def test_unknown_classes_are_an_error_that_names_the_known(root: Path) -> None:
    with pytest.raises(FilterError, match=r"no patient has: APL \(1\); the cohort has CBFB, NPM1"):
        read_cohort(root, classes=["APL"])
    with pytest.raises(FilterError, match="labels to merge that no patient has: APL"):
        read_cohort(root, merge_labels={"APL": "AML"})


def test_a_filter_that_leaves_nobody_is_an_error(root: Path) -> None:
    (root / "metadata.csv").write_text(
        METADATA.replace("control", "NPM1").replace(",90,,", ",0,0,")
    )
    (root / "data" / "control" / "D").rename(root / "data" / "NPM1" / "D")
    with pytest.raises(FilterError, match="no patients left"):
        read_cohort(root, min_malignant_percent=99)
