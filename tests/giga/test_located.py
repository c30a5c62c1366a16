"""What places are worth: the sparse encoder sees arrangement, the set encoder cannot."""

import h5py
import numpy as np
import pytest

from aml_mil.giga.checkpoint import load_giga
from tests.command_line import runner
from tests.giga.cases import bags_of
from tests.giga.located import STEP, auc_of, synthetic_kinds, write_located
from tests.interchange.layouts import TRIDENT_COORDS, bring_in, write_table

PATCH = 512  # Of a patch at level 0, in px.


@pytest.fixture(scope="module")
def aucs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("located")
    found = {}
    for label_is in ("arrangement", "composition"):
        store = write_located(folder / f"{label_is}.zarr", synthetic_kinds(), label_is=label_is)
        for kind in ("set", "sparse"):
            own = folder / f"{label_is}-{kind}"
            own.mkdir()
            settings = {"cells": 64, "epochs": 10, "width": 32}
            found[label_is, kind] = auc_of(store, own, kind=kind, **settings)["giga"]
    return found


@pytest.mark.slow
def test_arrangement_is_found_by_the_sparse_encoder_and_not_by_the_set_encoder(aucs):
    assert aucs["arrangement", "sparse"] > 0.9
    assert aucs["arrangement", "set"] < 0.7


@pytest.mark.slow
def test_composition_is_found_by_both(aucs):
    assert aucs["composition", "sparse"] > 0.9
    assert aucs["composition", "set"] > 0.9


def write_trident(folder, store):
    """Write located bags as TRIDENT writes the patches of slides."""
    folder.mkdir()
    bags = bags_of(store)
    for i, name in enumerate(bags.patient_ids):
        own = slice(*bags.offsets[i : i + 2])
        places = np.round(bags.places[own].numpy() / STEP) * PATCH
        with h5py.File(folder / f"{name}.h5", "w") as file:
            features = file.create_dataset("features", data=bags.table[own].numpy())
            features.attrs.update({"name": name, "encoder": "uni_v1", "savetodir": str(folder)})
            file.create_dataset("coords", data=places.astype("int64")).attrs.update(TRIDENT_COORDS)
    rows = zip(bags.patient_ids, bags.labels, strict=True)
    write_table(folder / "labels.csv", ("slide_id", "label"), *rows)
    return folder


def test_patches_of_slides_in_tridents_layout_go_all_the_way_with_their_places(tmp_path, capsys):
    aml_mil = runner(capsys)
    kinds = synthetic_kinds()
    made = write_located(tmp_path / "made.zarr", kinds, label_is="arrangement", num=15)
    source = write_trident(tmp_path / "features_uni_v1", made)
    bring_in("trident", source, tmp_path / "s.zarr")
    giga, store = tmp_path / "g.safetensors", tmp_path / "s.zarr"
    settings = ["--epochs", 2, "--cells", 32, "--width", 16, "--device", "cpu"]
    trained = aml_mil("giga-ssl", store, "--out", giga, "--json", *settings)
    assert trained.code == 0, trained.err
    assert "no augmented views" in trained.err
    assert trained.json["encoder"] == "sparse"
    assert trained.json["grid_step"] == PATCH
    assert load_giga(giga)[1].features_trained_on is None
    table = tmp_path / "e.npz"
    assert aml_mil("giga-embed", store, "--giga", giga, "--out", table, "--json").code == 0
    with np.load(table) as arrays:
        assert arrays["embeddings"].shape == (15, 16)
        assert np.isfinite(arrays["embeddings"]).all()
    words = ["--allow-transductive", "--num-folds", 3, "--percents", 100, "--mil-epochs", 1]
    probed = aml_mil("probe", store, "--giga", giga, "--out", tmp_path / "p", "--json", *words)
    assert probed.code == 0, probed.err
    assert {p["method"] for p in probed.json["curves"]} == {
        *("giga", "giga_random", "mean_pooling", "fit_mil")
    }
