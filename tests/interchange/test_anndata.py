"""AnnData files; skipped where the optional package is missing."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_mil.interchange import export_store, open_source
from stores import open_store
from stores.interchange import ExportError, InterchangeError, SourceError
from stores.interchange import anndata as anndata_files
from stores.interchange.anndata import export_anndata
from tests.interchange.layouts import bags_of, bring_in, store_of_cells


def test_without_the_package_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(InterchangeError, match=r"pip install 'aml-mil\[anndata\]'"):
        open_source("anndata", tmp_path / "x.h5ad")
    with (
        open_store(store_of_cells(tmp_path / "s.zarr")) as store,
        pytest.raises(InterchangeError, match=r"pip install 'aml-mil\[anndata\]'"),
    ):
        list(export_store(store, "anndata", tmp_path / "x.h5ad"))


@pytest.fixture
def anndata() -> Any:
    return pytest.importorskip("anndata")


def take_out(source: Path, out: Path, **given: Any) -> None:
    with open_store(source) as store:
        assert sum(1 for _ in export_anndata(store, out, **given)) == 3


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_anndata_keeps_everything_a_store_holds(
    anndata: Any, tmp_path: Path, suffix: str, dtype: str
) -> None:
    before = bags_of(store_of_cells(tmp_path / "s.zarr", dtype=dtype, shape=(3, 2, 2)))
    take_out(tmp_path / "s.zarr", tmp_path / f"o{suffix}")
    findings = bring_in("anndata", tmp_path / f"o{suffix}", tmp_path / "back.zarr")
    assert [str(finding) for finding in findings] == ["a/b: no label: the field is empty"]
    after = bags_of(tmp_path / "back.zarr")
    assert after.keys() == before.keys()
    for bag_id, bag in before.items():
        for name in ("features", "views", "colour"):
            assert getattr(after[bag_id], name).tobytes() == getattr(bag, name).tobytes()
        for name in ("instance_ids", "instance_labels", "smear", "attributes", "quarantined"):
            assert getattr(after[bag_id], name) == getattr(bag, name)
        assert after[bag_id].label == bag.label
    with open_store(tmp_path / "back.zarr") as store:
        assert (store.manifest.encoder, store.manifest.dtype) == ("resnet18", dtype)
        assert store.manifest.trained_on == ("P1", "P9")


def test_columns_become_text_once_however_many_patients_there_are(
    anndata: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of_cells(tmp_path / "s.zarr")
    take_out(tmp_path / "s.zarr", tmp_path / "o.h5ad")
    converted: Counter[str] = Counter()
    real = anndata_files._column

    def column(table: Any, name: str, path: Path) -> list[str]:
        converted[name] += 1
        return real(table, name, path)

    monkeypatch.setattr(anndata_files, "_column", column)
    bring_in("anndata", tmp_path / "o.h5ad", tmp_path / "back.zarr")
    assert converted == dict.fromkeys(("patient_id", "label", "image", "cell_type", "smear"), 1)


def test_scverse_finds_what_it_expects(anndata: Any, tmp_path: Path) -> None:
    before = bags_of(store_of_cells(tmp_path / "s.zarr"))
    umap = np.arange(18.0).reshape(9, 2)
    take_out(tmp_path / "s.zarr", tmp_path / "o.h5ad", embeddings={"X_umap": umap})
    table = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert table.obs["patient_id"].tolist() == ["P, 2"] * 3 + ["P1"] * 2 + ["a/b"] * 4
    assert table.obs["label"].isna().tolist() == [False] * 5 + [True] * 4
    assert table.obs["cell_type"].dropna().tolist() == ["blast"] * 3
    assert table.obs["image"].iloc[0] == "smear/image_0.tif"
    assert table.obs_names.is_unique
    np.testing.assert_array_equal(table.X[3:5], before["P1"].features)
    np.testing.assert_array_equal(table.layers["hflip"][3:5], before["P1"].views[0])
    np.testing.assert_array_equal(table.obsm["X_umap"], umap)
    assert table.uns["manifest"]["encoder"] == "resnet18"
    with open_store(tmp_path / "s.zarr") as store, pytest.raises(ExportError, match="8 rows for 9"):
        list(export_anndata(store, tmp_path / "p.h5ad", embeddings={"X_umap": umap[1:]}))
    assert not (tmp_path / "p.h5ad").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # whatever the packages below scanpy have to say
def test_scanpy_finds_neighbours_in_an_export(anndata: Any, tmp_path: Path) -> None:
    scanpy = pytest.importorskip("scanpy")
    store_of_cells(tmp_path / "s.zarr", dtype="float16")
    take_out(tmp_path / "s.zarr", tmp_path / "o.h5ad")
    table = scanpy.read_h5ad(tmp_path / "o.h5ad")
    scanpy.pp.neighbors(table, n_neighbors=3, use_rep="X")
    assert table.obsp["connectivities"].shape == (9, 9)


def test_a_foreign_table_says_what_it_means(anndata: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    values = np.array([[0, 1.5], [2, 0], [0, 3]], np.float32)
    obs = pandas.DataFrame(
        {"donor": ["d1", "d2", "d1"], "label": ["x", "y", "x"], "batch": ["1", "1", "2"]},
        index=["c1", "c2", "c3"],
    )
    anndata.AnnData(X=sparse.csr_matrix(values), obs=obs).write_h5ad(tmp_path / "f.h5ad")
    with pytest.raises(SourceError, match="no obs column 'patient_id', it has donor, label, batch"):
        open_source("anndata", tmp_path / "f.h5ad")
    bring_in("anndata", tmp_path / "f.h5ad", tmp_path / "out.zarr", id_column="donor")
    bag = bags_of(tmp_path / "out.zarr")["d1"]
    np.testing.assert_array_equal(bag.features, values[[0, 2]])
    assert bag.instance_ids == ("c1", "c3")
    obs["label"] = ["x", "y", "z"]
    anndata.AnnData(X=values, obs=obs).write_h5ad(tmp_path / "g.h5ad")
    with pytest.raises(SourceError, match="patient 'd1' has labels x, z"):
        bring_in("anndata", tmp_path / "g.h5ad", tmp_path / "two.zarr", id_column="donor")


def test_a_table_without_x_is_refused_and_says_what_it_holds(anndata: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    obs = pandas.DataFrame({"patient_id": ["p", "p"], "label": ["x", "x"]}, index=["c1", "c2"])
    table = anndata.AnnData(obs=obs, obsm={"X_pca": np.zeros((2, 3), np.float32)})
    table.write_h5ad(tmp_path / "f.h5ad")
    with pytest.raises(SourceError, match=r"has no X .* obsm holds X_pca"):
        bring_in("anndata", tmp_path / "f.h5ad", tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({}, "no JSON"),
        ({}, "[]"),
        ({}, '{"P1": 5}'),
        ({"feature_shape": ["q"]}, "{}"),
        ({"feature_shape": None}, "{}"),
        ({"feature_shape": [-1, -4]}, "{}"),
        ({"views": []}, "{}"),
        ({"numerics": float("nan")}, "{}"),
    ],
)
def test_notes_that_no_export_writes_are_refused_in_one_line(
    anndata: Any, tmp_path: Path, changes: dict[str, Any], about: str
) -> None:
    store_of_cells(tmp_path / "s.zarr")
    take_out(tmp_path / "s.zarr", tmp_path / "o.h5ad")
    table = anndata.read_h5ad(tmp_path / "o.h5ad")
    notes = json.loads(table.uns["manifest"]["json"])
    table.uns["manifest"]["json"] = json.dumps({**notes, **changes})
    table.uns["bags"] = about
    table.write_h5ad(tmp_path / "o.h5ad")
    with pytest.raises(SourceError, match=r"o\.h5ad"):
        bring_in("anndata", tmp_path / "o.h5ad", tmp_path / "out.zarr")


def test_no_anndata_file_is_refused(anndata: Any, tmp_path: Path) -> None:
    (tmp_path / "x.h5ad").write_bytes(b"no")
    for name, message in (
        ("x.h5ad", "cannot be read as AnnData"),
        ("y.h5ad", "is not there"),
        ("x.csv", r"ends in neither \.h5ad nor \.zarr"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source("anndata", tmp_path / name)
