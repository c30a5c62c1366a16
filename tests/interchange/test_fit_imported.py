"""Imported stores train like any other; what needs images is said to be left out."""

from pathlib import Path

import numpy as np
import pytest

from aml_mil.mil import FitConfig, FitSummary, fit
from tests.interchange.layouts import bring_in, features, write_clam, write_table


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_heads_train_on_imported_features_and_the_colour_floor_is_left_out(
    tmp_path: Path, dtype: str
) -> None:
    source = tmp_path / "FEAT"
    bags = {f"s{i}": features(1 + i % 3, 6, seed=i, dtype=dtype) + i % 2 for i in range(12)}
    write_clam(source, bags, labels=False)
    rows = [("c", name, "AML" if i % 2 else "APL") for i, name in enumerate(bags)]
    write_table(source / "labels.csv", ("case", "slide_id", "label"), *rows)
    bring_in("clam", source, tmp_path / "s.zarr", name="uni")
    config = FitConfig(num_folds=3, seeds=1, epochs=2, widths=(4, 4, 4, 4))
    *_, summary = fit(tmp_path / "s.zarr", out_dir=tmp_path / "run", config=config)
    assert isinstance(summary, FitSummary)
    assert "colour" not in summary.metrics["floors"]
    assert "imported" in summary.metrics["floors_left_out"]["colour"]
    assert np.isfinite(summary.metrics["macro"]["roc_auc"]["mean"])
    assert summary.leakage == "unknown"
