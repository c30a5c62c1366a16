"""Neighbours that keep ``.pt`` files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stores import open_store
from stores.interchange import SourceError
from tests.interchange.layouts import (
    bags_of,
    bring_in,
    features,
    places,
    write_pt,
    write_slideflow,
    write_table,
)


class Dangerous:
    """Would leave a file behind if its pickle were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_clam_pt_files_are_read_where_there_are_no_h5_files(tmp_path: Path) -> None:
    source = tmp_path / "FEAT"
    write_pt(source / "pt_files" / "s1.pt", torch.from_numpy(features(2)))
    write_table(source / "t.csv", ("case_id", "slide_id", "label"), ("c", "s1", "x"))
    assert bring_in("clam", source, tmp_path / "out.zarr") == []
    bag = bags_of(tmp_path / "out.zarr")["s1"]
    assert bag.features.tobytes() == features(2).tobytes()
    assert (bag.coords, bag.label) == (None, "x")


def test_bfloat16_is_widened_and_that_is_said(tmp_path: Path) -> None:
    values = torch.from_numpy(features(4)).bfloat16()
    write_pt(tmp_path / "pt_files" / "s1.pt", values)
    findings = bring_in("clam", tmp_path, tmp_path / "out.zarr")
    assert findings[-1].problem == "features widened from bfloat16 to float32"
    stored = bags_of(tmp_path / "out.zarr")["s1"].features
    assert torch.equal(torch.from_numpy(stored).bfloat16(), values)


def test_files_in_torchs_old_format_are_read(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    tensor = torch.from_numpy(features(2))
    torch.save(tensor, tmp_path / "pt_files" / "s1.pt", _use_new_zipfile_serialization=False)
    bring_in("clam", tmp_path, tmp_path / "out.zarr")
    np.testing.assert_array_equal(bags_of(tmp_path / "out.zarr")["s1"].features, features(2))


def test_a_pickle_in_place_of_a_tensor_is_refused_and_not_run(tmp_path: Path) -> None:
    source = tmp_path / "FEAT"
    write_pt(source / "pt_files" / "s1.pt", Dangerous(tmp_path / "was run"))
    with pytest.raises(SourceError, match=r"s1\.pt holds pickled Python objects") as caught:
        bring_in("clam", source, tmp_path / "out.zarr")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["FEAT"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"features": torch.ones(2, 3)}, "holds a dict, expected one tensor"),
        (torch.ones(3), r"a tensor of shape \(3,\)"),
        (torch.ones(2, 3).to_sparse(), "sparse_coo"),
        (torch.ones(2, 3, dtype=torch.int64), "the features are int64"),
    ],
)
def test_other_things_than_one_dense_tensor_are_refused(
    tmp_path: Path, value: object, message: str
) -> None:
    write_pt(tmp_path / "pt_files" / "s1.pt", value)
    with pytest.raises(SourceError, match=message):
        bring_in("clam", tmp_path, tmp_path / "out.zarr")


def test_no_tensor_file_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    (tmp_path / "pt_files" / "s1.pt").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(SourceError, match=r"s1\.pt"):
        bring_in("clam", tmp_path, tmp_path / "out.zarr")


def test_slideflow_brings_places_and_names_the_extractor(tmp_path: Path) -> None:
    source = tmp_path / "bags"
    source.mkdir()
    write_slideflow(source, {"s1": features(2), "s2": features(3, seed=1)})
    table = write_table(
        tmp_path / "annotations.csv",
        ("patient", "slide", "category"),
        ("p", "s1", "x"),
        ("p", "s2", "y"),
    )
    assert bring_in("slideflow", source, tmp_path / "out.zarr", labels=table) == []
    bag = bags_of(tmp_path / "out.zarr")["s2"]
    np.testing.assert_array_equal(bag.features, features(3, seed=1))
    np.testing.assert_array_equal(bag.coords, places(3))
    assert (bag.label, bag.attributes) == ("y", {"patient": "p"})
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.encoder.endswith("ctranspath.CTransPath")
        assert store.manifest.numerics["bags_config"]["tile_px"] == 299


def test_slideflow_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_slideflow(tmp_path, {"s1": features(2), "s2": features(3)})
    np.savez(tmp_path / "s1.index.npz", places(3))
    with pytest.raises(SourceError, match=r"arr_0 has shape \(3, 2\), expected \(2, 2\)"):
        bring_in("slideflow", tmp_path, tmp_path / "out.zarr")
    np.savez(tmp_path / "s1.index.npz", places(2))
    write_pt(tmp_path / "s2.pt", torch.ones(3, 4))
    with pytest.raises(SourceError, match=r"s2\.pt has features of shape \(4,\), .* says 3"):
        bring_in("slideflow", tmp_path, tmp_path / "out.zarr")
