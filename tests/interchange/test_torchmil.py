"""TRIDENT exports, read by torchmil; skipped where that package is missing."""

from pathlib import Path

import numpy as np
import pytest

from aml_mil.interchange import export_store
from stores import open_store
from tests.interchange.layouts import bags_of, bring_in, features, write_clam, write_table


@pytest.mark.filterwarnings("default")  # whatever the packages below torchmil have to say
def test_torchmil_reads_a_trident_export(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchmil.datasets")
    source = write_clam(tmp_path / "FEAT", {"s1": features(2), "s2": features(3)})
    rows = [("c", "s1", 0), ("d", "s2", 1)]
    write_table(source / "labels.csv", ("case_id", "slide_id", "label"), *rows)
    bring_in("clam", source, tmp_path / "s.zarr", name="uni")
    with open_store(tmp_path / "s.zarr") as store:
        assert len(list(export_store(store, "trident", tmp_path / "o"))) == 2
    dataset = datasets.TridentWSIDataset(
        base_path=f"{tmp_path}/o/",
        labels_path=f"{tmp_path}/o/labels.csv",
        feature_extractor="uni",
        wsi_name_col="slide_id",
        wsi_label_col="label",
        patch_size=256,
        bag_keys=["X", "Y", "coords"],
    )
    for i, bag in enumerate(bags_of(tmp_path / "s.zarr").values()):
        np.testing.assert_array_equal(dataset[i]["X"].numpy(), bag.features)
        np.testing.assert_array_equal(dataset[i]["coords"], bag.coords // 256)
        assert dataset[i]["Y"].item() == i
