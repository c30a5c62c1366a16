"""Encoders of patients and their embeddings on disk."""

import csv
import dataclasses
import json

import anndata
import numpy as np
import pytest
import torch

from aml_mil.giga.bags import CellSets
from aml_mil.giga.checkpoint import check_features, load_giga
from aml_mil.giga.checks import check_unseen, describe_views
from aml_mil.giga.draws import draw_for_embedding
from aml_mil.giga.embed import embed_patients
from aml_mil.giga.errors import CoordsMissingError, GigaError, GigaFileError
from aml_mil.giga.provenance import describe_embedding
from aml_mil.giga.tables import PatientEmbeddings, write_embeddings
from aml_mil.mil.errors import LeakageError
from tests.giga.cases import SHARED, bags_of, finish, manifest, small_run, toy_patients


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_patients(tmp_path_factory.mktemp("toy") / "toy.zarr", located=True)


@pytest.fixture(scope="module")
def giga(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("giga") / "g.safetensors"
    finish(small_run(bags_of(store), out, encoder="set"))
    return out


def embed(giga, bags, **settings):
    return np.stack(list(embed_patients(load_giga(giga)[0], bags, **settings)))


def test_an_embedding_is_the_mean_over_draws_in_the_untouched_view_at_length_1(store, giga):
    bags = bags_of(store)
    encoder, _ = load_giga(giga)
    found = embed(giga, bags, num_draws=7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    size = int(bags.sizes[3])
    cells = draw_for_embedding("P03", num_cells=size, cells=4, num_draws=7, seed=0)
    features = bags.table[torch.from_numpy(bags.offsets[3] + cells)]
    with torch.no_grad():
        mean = encoder(CellSets(features, None)).mean(0).numpy()
    np.testing.assert_allclose(found[3], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


def test_who_else_is_embedded_plays_no_part(store, giga):
    together = embed(giga, bags_of(store))
    alone = embed(giga, bags_of(store, ["P04", "P07"]))
    np.testing.assert_allclose(alone, together[[4, 7]], rtol=1e-4, atol=1e-6)


def test_augmented_views_play_no_part(store, giga, tmp_path):
    plain = toy_patients(tmp_path / "plain.zarr", views=SHARED[:1])
    bags = bags_of(plain)
    doubled = dataclasses.replace(
        bags,
        table=torch.cat([bags.table, torch.full_like(bags.table, torch.nan)]),
        manifest=manifest(views=SHARED[:2]),
    )
    np.testing.assert_array_equal(embed(giga, doubled), embed(giga, bags))


def test_more_draws_are_closer_to_all_cells(store, giga):
    bags = bags_of(store)
    many = embed(giga, bags, num_draws=400, seed=1)
    distances = [np.abs(embed(giga, bags, num_draws=n) - many).mean() for n in (2, 50)]
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".h5ad"])
def test_a_file_holds_every_number_and_where_it_comes_from(store, giga, tmp_path, suffix):
    bags = bags_of(store)
    _, info = load_giga(giga)
    vectors = embed(giga, bags, num_draws=3)
    provenance = describe_embedding(giga, info, bags, num_draws=3, seed=0)
    path = tmp_path / f"embeddings{suffix}"
    table = PatientEmbeddings(
        patient_ids=bags.patient_ids, labels=bags.labels, vectors=vectors, provenance=provenance
    )
    write_embeddings(path, table)
    write_embeddings(path, table)
    ids, labels, found, said = READERS[suffix](path)
    assert (ids, labels) == (list(bags.patient_ids), list(bags.labels))
    np.testing.assert_array_equal(found, vectors)
    assert said["trained_on"] == list(bags.patient_ids)
    assert said["features"]["weights_sha256"] == "0" * 64
    assert said["draws"] == 3
    assert len(said["giga_sha256"]) == 64


def read_csv(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    vectors = [[float(row[f"e{i + 1}"]) for i in range(16)] for row in rows]
    said = json.loads(path.with_suffix(".json").read_text())
    ids, labels = ([row[name] for row in rows] for name in ("patient_id", "label"))
    return ids, labels, np.array(vectors, dtype=np.float32), said


def read_npz(path):
    with np.load(path) as arrays:
        said = json.loads(str(arrays["provenance"]))
        ids, labels = arrays["patient_ids"].tolist(), arrays["labels"].tolist()
        return ids, labels, arrays["embeddings"], said


def read_h5ad(path):
    table = anndata.read_h5ad(path)
    said = json.loads(table.uns["provenance"])
    return list(table.obs_names), list(table.obs["label"]), table.X, said


READERS = {".csv": read_csv, ".npz": read_npz, ".h5ad": read_h5ad}


def test_another_suffix_is_refused(tmp_path):
    table = PatientEmbeddings(
        patient_ids=(), labels=(), vectors=np.zeros((0, 2), np.float32), provenance={}
    )
    with pytest.raises(GigaError, match=r"\.csv, \.npz, \.h5ad, got 'e.parquet'"):
        write_embeddings(tmp_path / "e.parquet", table)


def test_other_features_than_those_trained_on_are_refused_with_both_values(giga):
    _, info = load_giga(giga)
    check_features(info, manifest(views=("identity",), dtype="float16"), what="a and b")
    recipe = {"image_size_px": 144, "shared_views": {"seed": 0}}
    check_features(info, manifest(preprocessing=recipe), what="a and b")
    for values, message in (
        ({"weights_sha256": "1" * 64}, "expected weights_sha256 000.*, got 111"),
        ({"feature_shape": (9,)}, r"expected feature_shape \[8\], got \[9\]"),
        ({"preprocessing": {"layer": "layer3"}}, "expected preprocessing .*144.*, got .*layer3"),
    ):
        with pytest.raises(GigaFileError, match=message):
            check_features(info, manifest(**values), what="a and b")


def test_a_damaged_missing_or_foreign_file_is_refused(giga, tmp_path):
    with pytest.raises(GigaFileError, match="no encoder of patients at"):
        load_giga(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(giga.read_bytes()[:-50])
    with pytest.raises(GigaFileError, match="not a whole file of giga-ssl"):
        load_giga(cut)
    with pytest.raises(GigaFileError, match="not a whole file of giga-ssl"):
        load_giga(giga.with_suffix(".state.safetensors"))


def test_a_sparse_encoder_refuses_patients_without_places(store, tmp_path):
    out = tmp_path / "s.safetensors"
    finish(small_run(bags_of(store), out, encoder="sparse", epochs=1))
    plain = bags_of(toy_patients(tmp_path / "plain.zarr"))
    with pytest.raises(CoordsMissingError, match="needs coords of every cell"):
        embed(out, plain)


def test_an_encoder_that_has_seen_test_patients_is_refused_unless_that_is_allowed(giga):
    _, info = load_giga(giga)
    folds = {f"P{i:02d}": i % 3 for i in range(12)}
    unseen = dataclasses.replace(
        info, trained_on=tuple(p for p, fold in folds.items() if fold == 2)
    )
    assert check_unseen({0: unseen}, folds, allow_transductive=False) == ()
    with pytest.raises(LeakageError, match=r"test patients of fold 1: P01, P04.*\{fold\}"):
        check_unseen({0: unseen, 1: info}, folds, allow_transductive=False)
    assert check_unseen({0: unseen, 1: info}, folds, allow_transductive=True) == (1,)
    through_cells = dataclasses.replace(unseen, features_trained_on=("P00",))
    with pytest.raises(LeakageError, match=r"test patients of fold 0: P00"):
        check_unseen({0: through_cells}, folds, allow_transductive=False)


def test_stores_without_augmentations_are_called_weaker():
    assert describe_views(SHARED) is None
    assert "no augmented views" in describe_views(("identity",))
    assert "flips" in describe_views(("identity", "hflip", "vflip", "both"))
