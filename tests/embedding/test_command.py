"""What `aml-mil embed` says of engine and precision."""

import json

from click.testing import CliRunner

from cli.embed import embed


def invoke(cohort_dir, store, *flags):
    encoder = ["--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32"]
    arguments = [str(cohort_dir), *encoder, "--device", "cpu", "--out", str(store), *flags]
    return CliRunner().invoke(embed, arguments)


def test_the_precision_check_is_in_the_json_and_in_the_summary(cohort_dir, tmp_path):
    flags = ["--engine", "torch", "--precision", "bf16", "--check-precision", "7"]
    first = invoke(cohort_dir, tmp_path / "a.zarr", *flags, "--json")
    document = json.loads(first.stdout)
    assert (document["engine"], document["compute_dtype"]) == ("torch", "bf16")
    assert document["cells_compared_with_fp32"] == 7
    assert 0.999 < document["min_cosine"] < 1
    assert 0 < document["max_abs_error"] < 0.1
    again = invoke(cohort_dir, tmp_path / "a.zarr", *flags)
    assert "min cosine" in again.stdout, "a finished store can be checked, too"


def test_without_the_flag_no_figure_is_made_up(cohort_dir, tmp_path):
    document = json.loads(invoke(cohort_dir, tmp_path / "a.zarr", "--json").stdout)
    assert "min_cosine" not in document
    assert document["engine"] == "torch", "a few cells do not repay the start of another engine"


def test_a_percentage_that_is_none_is_wrong_usage(cohort_dir, tmp_path):
    for percent in ("120", "-1"):
        outcome = invoke(cohort_dir, tmp_path / "a.zarr", "--min-malignant-percent", percent)
        assert outcome.exit_code == 2, "not a traceback"
        assert f"{float(percent)} is not in the range" in outcome.stderr
