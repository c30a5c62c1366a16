"""Stores in neighbours' layouts, and back."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from aml_mil.interchange import export_store
from stores import StoreExistsError, open_store, pack_bags
from stores.interchange import ExportError, InterchangeUsageError
from stores.interchange.hidden_path import hidden_path
from tests.interchange.layouts import (
    TRIDENT_COORDS,
    bags_of,
    bring_in,
    features,
    places,
    store_of_cells,
    write_clam,
    write_trident,
)

OUT = {"clam": "o", "trident": "o", "bags": "o", "table": "o.csv"}


def take_out(store_path: Path, layout: str, out: Path) -> set[str]:
    with open_store(store_path) as store:
        return {note for bag in export_store(store, layout, out) for note in bag.notes}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", OUT)
def test_a_round_trip_returns_the_same_features(tmp_path: Path, layout: str, dtype: str) -> None:
    before = bags_of(store_of_cells(tmp_path / "s.zarr", dtype=dtype))
    take_out(tmp_path / "s.zarr", layout, tmp_path / OUT[layout])
    given = {"dtype": dtype} if layout == "table" else {}
    bring_in(layout, tmp_path / OUT[layout], tmp_path / "back.h5store", **given)
    after = bags_of(tmp_path / "back.h5store")
    names = {"a/b": "a%2Fb"} if layout in ("clam", "trident") else {}
    for bag_id, bag in before.items():
        back = after.pop(names.get(bag_id, bag_id))
        expected = bag.features.astype(np.float32) if layout == "clam" else bag.features
        assert back.features.dtype == expected.dtype
        assert back.features.tobytes() == expected.tobytes()
        assert back.label == bag.label
    assert after == {}


@pytest.mark.parametrize("shape", [(4,), (3, 2, 2)])
def test_bags_keep_everything_a_store_holds(tmp_path: Path, shape: tuple[int, ...]) -> None:
    before = bags_of(store_of_cells(tmp_path / "s.zarr", shape=shape))
    take_out(tmp_path / "s.zarr", "bags", tmp_path / "o")
    findings = bring_in("bags", tmp_path / "o", tmp_path / "back.zarr")
    assert [str(finding) for finding in findings] == ["a/b: no label: it is empty in labels.csv"]
    after = bags_of(tmp_path / "back.zarr")
    for bag_id, bag in before.items():
        for name in ("features", "views", "colour"):
            assert getattr(after[bag_id], name).tobytes() == getattr(bag, name).tobytes()
        for name in ("instance_ids", "instance_labels", "smear", "attributes", "quarantined"):
            assert getattr(after[bag_id], name) == getattr(bag, name)
    with open_store(tmp_path / "back.zarr") as store:
        assert store.manifest.encoder == "resnet18"
        assert store.manifest.trained_on == ("P1", "P9")
        assert store.manifest.views == ("identity", "hflip")
        assert store.manifest.weights_sha256 != "ab" * 32


def test_clam_reads_float32_int32_and_the_same_tensors(tmp_path: Path) -> None:
    store_of_cells(tmp_path / "s.zarr", dtype="float16")
    notes = take_out(tmp_path / "s.zarr", "clam", tmp_path / "o")
    assert notes == {
        "left out: views, colour, instance_labels, smear, instance_ids, attributes, "
        "the list of quarantined files",
        "its id cannot name a file: written as a%2Fb",
        "features widened from float16 to float32, every value is kept",
        "no coords: zeros written",
        "no label: left empty",
    }
    with h5py.File(tmp_path / "o" / "h5_files" / "P1.h5") as file:
        assert (file["features"].dtype, file["coords"].dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(file["coords"], np.zeros((2, 2)))
        tensor = torch.load(tmp_path / "o" / "pt_files" / "P1.pt", weights_only=True)
        np.testing.assert_array_equal(tensor.numpy(), file["features"])
    assert (tmp_path / "o" / "labels.csv").read_text().splitlines() == [
        "case_id,slide_id,label",
        '"P, 2","P, 2",APL',
        "P1,P1,AML",
        "a%2Fb,a%2Fb,",
    ]


@pytest.mark.parametrize("layout", ["clam", "trident", "table"])
def test_what_is_known_of_a_patient_and_not_exported_is_said(tmp_path: Path, layout: str) -> None:
    store_of_cells(tmp_path / "s.zarr")
    (note,) = (
        note
        for note in take_out(tmp_path / "s.zarr", layout, tmp_path / OUT[layout])
        if note.startswith("left out")
    )
    assert note.endswith("attributes, the list of quarantined files")


def test_clam_rounds_float64_and_says_so(tmp_path: Path) -> None:
    store_of_cells(tmp_path / "s.zarr", dtype="float64")
    notes = take_out(tmp_path / "s.zarr", "clam", tmp_path / "o")
    assert "features narrowed from float64 to float32, values are rounded" in notes


def test_clam_to_clam_changes_no_byte_of_coords_or_cases(tmp_path: Path) -> None:
    source = write_clam(tmp_path / "FEAT", {"s1": features(2), "s2": features(3)})
    bring_in("clam", source, tmp_path / "s.zarr")
    assert take_out(tmp_path / "s.zarr", "clam", tmp_path / "o") == set()
    for name, num in (("s1", 2), ("s2", 3)):
        with h5py.File(tmp_path / "o" / "h5_files" / f"{name}.h5") as file:
            assert file["features"][...].tobytes() == features(num).tobytes()
            assert file["coords"][...].tobytes() == places(num).tobytes()
    assert "case s2,s2,AML" in (tmp_path / "o" / "labels.csv").read_text()


def test_trident_to_trident_keeps_attributes_chunks_and_dtype(tmp_path: Path) -> None:
    source = tmp_path / "features_uni_v1"
    source.mkdir()
    write_trident(source, {"s": features(3, dtype="float16")})
    bring_in("trident", source, tmp_path / "s.zarr")
    assert take_out(tmp_path / "s.zarr", "trident", tmp_path / "o") == {"no label: left empty"}
    with h5py.File(tmp_path / "o" / "features_uni_v1" / "s.h5") as file:
        assert file["features"][...].tobytes() == features(3, dtype="float16").tobytes()
        assert (file["features"].chunks, file["coords"].dtype) == ((1, 3), np.int64)
        assert file["features"].attrs["encoder"] == "uni_v1"
        kept = {**TRIDENT_COORDS, "savetodir": "patches"}
        assert dict(file["coords"].attrs) == kept
        np.testing.assert_array_equal(file["coords"], places(3))


def test_maps_do_not_fit_tools_of_vectors(tmp_path: Path) -> None:
    store_of_cells(tmp_path / "s.zarr", shape=(3, 2, 2))
    for layout in ("clam", "trident", "table"):
        with pytest.raises(ExportError, match=r"holds vectors, .* has maps of shape \(3, 2, 2\)"):
            take_out(tmp_path / "s.zarr", layout, tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("layout", OUT)
def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path, layout: str) -> None:
    with open_store(store_of_cells(tmp_path / "s.zarr")) as store:
        records = export_store(store, layout, tmp_path / OUT[layout])
        next(records)
        assert not (tmp_path / OUT[layout]).exists()
        records.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("layout", OUT)
def test_an_export_writes_over_nothing(tmp_path: Path, layout: str) -> None:
    store_of_cells(tmp_path / "s.zarr")
    (tmp_path / OUT[layout]).write_text("mine")
    with pytest.raises(StoreExistsError, match="is there already"):
        take_out(tmp_path / "s.zarr", layout, tmp_path / OUT[layout])
    assert (tmp_path / OUT[layout]).read_text() == "mine"


@pytest.mark.parametrize("layout", [*OUT, "anndata"])
def test_the_folders_above_an_export_are_made(tmp_path: Path, layout: str) -> None:
    if layout == "anndata":
        pytest.importorskip("anndata")
    store_of_cells(tmp_path / "s.zarr")
    out = tmp_path / "new" / "folder" / (OUT | {"anndata": "o.h5ad"})[layout]
    take_out(tmp_path / "s.zarr", layout, out)
    assert list(out.parent.iterdir()) == [out]


def test_what_appears_during_an_export_is_not_written_over(tmp_path: Path) -> None:
    staged = hidden_path(tmp_path / "o")
    staged.__enter__().write_text("ours")
    (tmp_path / "o").write_text("mine")
    with pytest.raises(StoreExistsError, match="is there already"):
        staged.__exit__(None, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_packed_bags_say_that_there_is_no_colour(tmp_path: Path) -> None:
    write_clam(tmp_path / "FEAT", {"s1": features(2), "s2": features(3)})
    bring_in("clam", tmp_path / "FEAT", tmp_path / "s.zarr")
    store_of_cells(tmp_path / "cells.zarr")
    with open_store(tmp_path / "s.zarr") as store, open_store(tmp_path / "cells.zarr") as cells:
        assert pack_bags(store).colour is None
        assert pack_bags(cells).colour.shape == (9, 6)


def test_an_unknown_suffix_for_anndata_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("anndata")
    store_of_cells(tmp_path / "s.zarr")
    with pytest.raises(InterchangeUsageError, match=r"ends in \.h5ad or \.zarr"):
        take_out(tmp_path / "s.zarr", "anndata", tmp_path / "o.npz")
