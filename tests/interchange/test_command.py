"""`aml-mil store import` and `store export`."""

import json
from pathlib import Path

import numpy as np
import pytest

from cli.main import main
from tests.interchange.layouts import bags_of, features, write_clam, write_table


def test_import_reports_and_export_says_what_it_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_clam(tmp_path / "FEAT", {"s1": features(2), "s2": features(3)})
    write_table(source / "labels.csv", ("case_id", "slide_id", "label"), ("c", "s1", "x"))
    store = str(tmp_path / "s.zarr")
    words = ["store", "import", "--from", "clam", str(source), "--out", store, "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["num_bags"], document["num_instances"]) == (2, 5)
    assert document["findings"] == [
        {"bag_id": "s2", "problem": "no label: it is missing in labels.csv"}
    ]
    assert "s2: no label" in captured.err
    assert "recorded as unknown" in captured.err
    words = ["store", "export", store, "--to", "bags", "--out", str(tmp_path / "o"), "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["notes"] == {"no label: left empty": 1}
    np.testing.assert_array_equal(np.load(tmp_path / "o" / "s2.npz")["features"], features(3))


def test_the_name_of_the_encoder_can_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "t.csv", ("bag", "label", "f1"), ("a", "x", 1))
    words = ["store", "import", "--from", "table", str(table), "--out", str(tmp_path / "s.h5store")]
    assert main([*words, "--encoder-name", "hand-made", "--dtype", "float32"]) == 0
    captured = capsys.readouterr()
    assert "hand-made" in captured.out
    assert "recorded as unknown" not in captured.err
    assert bags_of(tmp_path / "s.h5store")["a"].features.dtype == np.float32


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--from", "table", "T", "--out", "s.zarr", "--prefix", "x"], 2, "no effect on table"),
        (["--from", "table", "T", "--out", "s.csv"], 2, "ends in .zarr or .h5store"),
        (["--from", "clam", "T", "--out", "s.zarr"], 1, "holds neither h5_files/ nor pt_files/"),
        (["--from", "nobody", "T", "--out", "s.zarr"], 2, "'nobody' is not one of"),
        (["--from", "table", "T", "--out", "T/s.zarr"], 1, "Not a directory"),
    ],
)
def test_wrong_usage_and_bad_data_give_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "T", ("bag", "label", "f1"), ("a", "x", 1))
    assert main(["store", "import", *words]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["T"]


def test_many_bags_of_one_kind_share_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_clam(
        tmp_path / "FEAT", {f"s{i}": features(1, seed=i) for i in range(11)}, labels=False
    )
    words = ["store", "import", "--from", "clam", str(source), "--out", str(tmp_path / "s.zarr")]
    assert main(words) == 0
    assert "11 bags: no label: there is no table of labels (s0, s1," in capsys.readouterr().err
