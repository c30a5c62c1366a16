"""Each neighbour's layout, written as that neighbour writes it."""

from pathlib import Path

import numpy as np
import pytest

from stores import open_store
from stores.interchange import SourceError
from tests.interchange.layouts import (
    TRIDENT_COORDS,
    bags_of,
    bring_in,
    features,
    places,
    write_clam,
    write_h5,
    write_table,
    write_trident,
)

BAGS = {"s1": features(2, seed=1), "s2": features(3, seed=2), "s10": features(1, seed=3)}


def test_clam_h5_files_bring_coords_labels_and_cases(tmp_path: Path) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    assert bring_in("clam", source, tmp_path / "out.zarr") == []
    bags = bags_of(tmp_path / "out.zarr")
    assert {name: bag.label for name, bag in bags.items()} == {
        "s1": "APL",
        "s2": "AML",
        "s10": "APL",
    }
    assert bags["s2"].attributes == {"case_id": "case s2"}
    for name, values in BAGS.items():
        np.testing.assert_array_equal(bags[name].features, values)
        np.testing.assert_array_equal(bags[name].coords, places(len(values)))


@pytest.mark.parametrize("is_named", [False, True])
def test_labels_in_another_encoding_than_utf8_are_refused_not_overlooked(
    tmp_path: Path, is_named: bool
) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    labels = source / "labels.csv"
    labels.write_text(labels.read_text().replace("APL", "Vorläufer"), encoding="latin-1")
    given = {"labels": labels} if is_named else {}
    with pytest.raises(SourceError, match=r"labels\.csv is no table in UTF-8"):
        bring_in("clam", source, tmp_path / "out.zarr", **given)
    labels.write_text("clinic,town\nLMU,München\n", encoding="latin-1")
    if not is_named:  # a table of something else is none of ours
        assert len(bring_in("clam", source, tmp_path / "out.zarr")) == len(BAGS)


def test_slides_of_one_case_are_pointed_out(tmp_path: Path) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    rows = [("c", "s1", "x"), ("c", "s2", "x"), ("d", "s10", "x")]
    write_table(source / "labels.csv", ("case_id", "slide_id", "label"), *rows)
    findings = bring_in("clam", source, tmp_path / "out.zarr")
    assert [(f.bag_id, "one of 2 slides of case c" in f.problem) for f in findings] == [
        ("s1", True),
        ("s2", True),
    ]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"feats": features(2)}, "has no dataset 'features', it holds feats"),
        ({}, "has no dataset 'features', it holds nothing"),
        (
            {"features": features(3), "coords": places(2)},
            r"coords has shape \(2, 2\), expected \(3, 2\)",
        ),
        ({"features": np.zeros((2, 3, 4), "f4")}, r"shape \(2, 3, 4\), expected \(N, D\)"),
        ({"features": np.full((1, 3), b"x")}, r"features holds \|S1, expected numbers"),
    ],
)
def test_wrong_datasets_are_said_in_one_line_and_nothing_is_left(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    write_h5(source / "h5_files" / "s2.h5", arrays)
    with pytest.raises(SourceError, match=message) as caught:
        bring_in("clam", source, tmp_path / "out.zarr")
    assert "s2.h5" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["FEAT"]


def test_a_cut_hdf5_file_is_refused(tmp_path: Path) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    file = source / "h5_files" / "s2.h5"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(SourceError, match=r"s2\.h5 cannot be read as HDF5"):
        bring_in("clam", source, tmp_path / "out.zarr")


def test_h5_and_pt_files_of_different_slides_are_refused(tmp_path: Path) -> None:
    source = write_clam(tmp_path / "FEAT", BAGS)
    (source / "pt_files").mkdir()
    (source / "pt_files" / "s1.pt").touch()
    with pytest.raises(SourceError, match="in one of h5_files and pt_files only: s10, s2"):
        bring_in("clam", source, tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("attribute", "encoder"),
    [("uni_v1", "uni_v1"), ("None", "conch"), ('{"enc_name": "virchow"}', "virchow")],
)
def test_trident_names_the_encoder_and_keeps_attributes_and_dtype(
    tmp_path: Path, attribute: str, encoder: str
) -> None:
    folder = tmp_path / "20x_256px_0px_overlap" / "features_conch"
    folder.mkdir(parents=True)
    half = {name: values.astype(np.float16) for name, values in BAGS.items()}
    write_trident(folder, half | {"empty": np.empty((0, 3), np.float16)}, attribute)
    table = write_table(
        folder.parent / "t.csv", ("slide_id", "label"), *[(n, "x") for n in (*BAGS, "empty")]
    )
    findings = bring_in("trident", folder.parent, tmp_path / "out.h5store", labels=table)
    assert [str(finding) for finding in findings] == ["empty: no instances; left out"]
    bag = bags_of(tmp_path / "out.h5store")["s2"]
    assert bag.features.tobytes() == half["s2"].tobytes()
    assert bag.attributes["coords"] == TRIDENT_COORDS
    assert bag.attributes["features"]["encoder"] == attribute
    with open_store(tmp_path / "out.h5store") as store:
        assert store.manifest.encoder == encoder


def test_trident_files_of_two_encoders_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "features_x"
    folder.mkdir()
    write_trident(folder, {"s1": BAGS["s1"]}, "uni_v1")
    write_trident(folder, {"s2": BAGS["s2"]}, "conch")
    with pytest.raises(SourceError, match="several encoders: conch, uni_v1"):
        bring_in("trident", folder, tmp_path / "out.zarr")


def test_trident_slide_features_are_bags_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "slide_features_titan"
    vector = features(1, 5)[0]
    write_h5(folder / "s1.h5", {"features": vector, "coords": places(7)})
    bring_in("trident", folder, tmp_path / "out.zarr")
    np.testing.assert_array_equal(bags_of(tmp_path / "out.zarr")["s1"].features, vector[None])
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.encoder == "titan"


@pytest.fixture
def stamp(tmp_path: Path) -> Path:
    """Patient A has two files, B one; a third file is nobody's."""
    folder = tmp_path / "ctranspath-0123abcd"
    about = {"stamp_version": "2.3.0", "extractor": "ctranspath", "unit": "um", "feat_type": "tile"}
    for i, name in enumerate(("a1", "a2", "b", "x")):
        arrays = {
            "feats": features(2, seed=i, dtype="float16"),
            "coords": places(2, "float32") + 0.5,
        }
        write_h5(folder / f"{name}.h5", arrays, file={**about, "tile_size_um": 256.0})
    return folder


def test_stamp_files_of_a_patient_become_one_bag(stamp: Path, tmp_path: Path) -> None:
    slides = [("A", "a1.h5"), ("A", "a2.h5"), ("B", "b.h5")]
    write_table(stamp / "slide.csv", ("PATIENT", "FILENAME"), *slides)
    clini = write_table(
        tmp_path / "clini.csv", ("PATIENT", "isMSI", "AGE"), ("A", "yes", 61), ("B", "no", 4)
    )
    findings = bring_in("stamp", stamp, tmp_path / "out.zarr", labels=clini, label_column="isMSI")
    assert [str(finding) for finding in findings] == ["x: the file is not in slide.csv; left out"]
    bags = bags_of(tmp_path / "out.zarr")
    joined = np.concatenate([features(2, seed=i, dtype="float16") for i in (0, 1)])
    assert bags["A"].features.tobytes() == joined.tobytes()
    assert bags["A"].smear == ("a1", "a1", "a2", "a2")
    assert bags["A"].instance_ids == ("a1/0", "a1/1", "a2/0", "a2/1")
    np.testing.assert_array_equal(bags["A"].coords[2:], places(2, "float32") + 0.5)
    assert (bags["A"].label, bags["B"].label) == ("yes", "no")
    assert bags["B"].attributes["stamp"]["tile_size_um"] == 256.0
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.encoder == "ctranspath"


def test_a_stamp_table_that_names_a_missing_file_is_refused(stamp: Path, tmp_path: Path) -> None:
    slides = [("A", "a1.h5"), ("A", "gone.h5")]
    write_table(stamp / "slide.csv", ("PATIENT", "FILENAME"), *slides)
    with pytest.raises(SourceError, match=r"not there: gone\.h5 \(1 of 2\)"):
        bring_in("stamp", stamp, tmp_path / "out.zarr")


@pytest.fixture
def scemila(tmp_path: Path) -> Path:
    """Two patients with maps beside their images, one of them in two versions."""
    root = tmp_path / "ROOT"
    for label, patient, num in (("PML_RARA", "AQK", 11), ("control", "BZF", 2)):
        folder = root / "data" / label / patient
        folder.mkdir(parents=True)
        for i in range(num):
            (folder / f"image_{i}.tif").touch()
        maps = features(num, 512 * 25, seed=num).reshape(num, 512, 5, 5)
        np.save(folder / "fnl34_bn_features_layer_7.npy", maps)
    rows = [("AQK", 61, "f", "PML_RARA"), ("BZF", 30, "m", "control")]
    write_table(root / "metadata.csv", ("patient_id", "age", "sex_1f_2m", "bag_label"), *rows)
    return root


def test_scemila_maps_meet_their_images_in_natural_order(scemila: Path, tmp_path: Path) -> None:
    assert bring_in("scemila", scemila, tmp_path / "out.zarr") == []
    bag = bags_of(tmp_path / "out.zarr")["AQK"]
    assert bag.features.tobytes() == features(11, 512 * 25, seed=11).tobytes()
    assert bag.instance_ids == tuple(f"image_{i}.tif" for i in range(11))
    assert (bag.label, bag.attributes["age"]) == ("PML_RARA", "61")
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.feature_shape == (512, 5, 5)
        assert store.manifest.encoder == "fnl34"


def test_scemila_refuses_to_guess(scemila: Path, tmp_path: Path) -> None:
    folder = scemila / "data" / "control" / "BZF"
    (folder / "image_9.tif").touch()
    with pytest.raises(SourceError, match="has 2 rows, its folder 3 images"):
        bring_in("scemila", scemila, tmp_path / "out.zarr")
    (folder / "image_9.tif").unlink()
    np.save(folder / "dn_bn_features_layer_7.npy", np.zeros((2, 512, 5, 5), "f4"))
    with pytest.raises(SourceError, match="several prefixes: dn_, fnl34_"):
        bring_in("scemila", scemila, tmp_path / "out.zarr")
    (scemila / "data" / "NPM1").mkdir()
    folder.rename(scemila / "data" / "NPM1" / "BZF")
    with pytest.raises(SourceError, match=r"'BZF' is 'control' .* lies under 'NPM1'"):
        bring_in("scemila", scemila, tmp_path / "out.zarr", prefix="fnl34_")


@pytest.fixture
def gigassl(tmp_path: Path) -> Path:
    """Two slides in three views of the same places."""
    root = tmp_path / "giga"
    for slide, num in (("s1", 2), ("s2", 3)):
        for view in ("0", "1", "10"):
            for kind, values in (
                ("tiles", features(num, 256, seed=num + int(view))),
                ("coordinates", places(num, "int64")),
            ):
                (root / kind / slide).mkdir(parents=True, exist_ok=True)
                np.save(root / kind / slide / f"{view}.npy", values)
    return root


def test_gigassl_views_of_the_same_places_are_views_of_one_bag(
    gigassl: Path, tmp_path: Path
) -> None:
    bring_in("gigassl", gigassl, tmp_path / "out.zarr")
    bag = bags_of(tmp_path / "out.zarr")["s2"]
    np.testing.assert_array_equal(bag.features, features(3, 256, seed=3))
    np.testing.assert_array_equal(bag.views[1], features(3, 256, seed=13))
    np.testing.assert_array_equal(bag.coords, places(3))
    with open_store(tmp_path / "out.zarr") as store:
        assert store.manifest.views == ("identity", "view 1", "view 10")


def test_gigassl_views_of_other_places_need_a_choice(gigassl: Path, tmp_path: Path) -> None:
    np.save(gigassl / "coordinates" / "s2" / "10.npy", places(3) + 1)
    with pytest.raises(SourceError, match=r"10\.npy has other places than 0\.npy"):
        bring_in("gigassl", gigassl, tmp_path / "out.zarr")
    bring_in("gigassl", gigassl, tmp_path / "out.zarr", view="10")
    bag = bags_of(tmp_path / "out.zarr")["s2"]
    assert bag.views is None
    np.testing.assert_array_equal(bag.coords, places(3) + 1)


def test_gigassl_embeddings_are_bags_of_one(tmp_path: Path) -> None:
    root = tmp_path / "emb"
    root.mkdir()
    np.save(root / "embeddings.npy", features(2))
    np.save(root / "ids.npy", np.array(["p1", "p2"]))
    bring_in("gigassl", root, tmp_path / "out.zarr")
    np.testing.assert_array_equal(bags_of(tmp_path / "out.zarr")["p2"].features, features(2)[1:])
    np.save(root / "ids.npy", np.array(["p1", "p1"]))
    with pytest.raises(SourceError, match="ids occur twice: p1"):
        bring_in("gigassl", root, tmp_path / "again.zarr")
    np.save(root / "ids.npy", np.array(["p1", None], dtype=object))
    with pytest.raises(SourceError, match=r"ids\.npy .* pickled Python objects"):
        bring_in("gigassl", root, tmp_path / "again.zarr")


def test_bags_of_several_kinds_of_file(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    maps = {name: features(2, 50, seed=i).reshape(2, 2, 5, 5) for i, name in enumerate("abc")}
    write_h5(root / "a.h5", {"features": maps["a"], "coords": places(2)})
    np.save(root / "b.npy", maps["b"])
    np.savez(root / "c.npz", maps["c"])
    bring_in("bags", root, tmp_path / "out.zarr")
    for name, bag in bags_of(tmp_path / "out.zarr").items():
        np.testing.assert_array_equal(bag.features, maps[name])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": features(2), "y": features(2)}, "has no array 'features', it holds x, y"),
        ({"features": features(2), "coords": places(3)}, r"coords has shape \(3, 2\), expected 2"),
        (
            {"features": features(2), "views": features(2)[None]},
            r"views have shape \(1, 2, 3\), expected \(0, 2, 3\)",
        ),
        ({"features": np.array([{}])}, "pickled Python objects"),
        ({"features": features(2)[0]}, r"features have shape \(3,\), expected"),
    ],
)
def test_npz_files_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    (tmp_path / "src").mkdir()
    np.savez(tmp_path / "src" / "a.npz", **arrays)
    with pytest.raises(SourceError, match=message):
        bring_in("bags", tmp_path / "src", tmp_path / "out.zarr")


def test_one_bag_in_two_files_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", features(2))
    np.savez(tmp_path / "a.npz", features=features(2))
    with pytest.raises(SourceError, match=r"bag 'a' twice: a\.npy, a\.npz"):
        bring_in("bags", tmp_path, tmp_path / "out.zarr")
