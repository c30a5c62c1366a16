"""Views that all cells of a patient share."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from aml_mil.embedding import EmbedConfig, NumericsMismatchError, numerics
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.openvino_engine import has_openvino
from aml_mil.embedding.shared_views import SharedViews, describe_shared_views
from aml_mil.embedding.views import shared_kind, view_names, view_set
from aml_mil.encoders import load_encoder
from stores import StoreMismatchError, open_store
from tests.command_line import runner
from tests.embedding.drawing import SIZE_PX, bag_bytes, run, start, tiny_encoder

SHARED = {"views": "shared:3"}
ENGINES = ["torch", *(["openvino"] if has_openvino() else [])]


def cells(num=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def draws(owners, images, view=1, kind="shared"):
    return SharedViews(kind, SIZE_PX)(images, owners, view=view)


def mirror_images(cohort_dir):
    for path in (cohort_dir / "data").rglob("*.png"):
        ImageOps.mirror(Image.open(path)).save(path)


def all_views(bag):
    return np.concatenate([bag.features[None], bag.views])


def test_all_cells_of_a_patient_get_one_draw_and_another_patient_another():
    images = np.repeat(cells(1), 4, axis=0)
    viewed = draws(["A", "A", "B", "B"], images)
    np.testing.assert_array_equal(viewed[0], viewed[1])
    np.testing.assert_array_equal(viewed[2], viewed[3])
    assert not np.array_equal(viewed[0], viewed[2])


def test_the_draw_depends_on_neither_content_nor_company_but_on_the_view():
    other = cells(1, seed=5)
    alone = draws(["B"], other)
    beside = draws(["A", "A", "A", "B"], np.concatenate([cells(3), other]))
    np.testing.assert_array_equal(beside[3], alone[0])
    assert not np.array_equal(draws(["B"], other, view=2), alone)


def test_views_differ_in_geometry_and_colour_between_patients():
    patients = [f"patient{number}" for number in range(40)]
    ramp = np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    ramp[..., 0] = np.linspace(60, 200, SIZE_PX)[None]
    ramp[..., 1] = np.linspace(60, 200, SIZE_PX)[:, None]
    ramp[..., 2] = 90
    viewed = draws(patients, np.stack([ramp] * 40)).astype(int)
    leftward = viewed[:, :, :8, 0].mean((1, 2)) > viewed[:, :, -8:, 0].mean((1, 2))
    upward = viewed[:, :8, :, 1].mean((1, 2)) > viewed[:, -8:, :, 1].mean((1, 2))
    assert {(bool(a), bool(b)) for a, b in zip(leftward, upward, strict=True)} == {
        (a, b) for a in (True, False) for b in (True, False)
    }, "flips in both directions, each with and without the other"
    grey = np.ptp(viewed, axis=-1).max((1, 2)) == 0
    assert 1 <= grey.sum() <= 16
    assert viewed[..., 2].mean((1, 2)).std() > 5


def test_a_colour_view_changes_the_stain_and_leaves_every_pixel_in_its_place():
    patients = [f"patient{number}" for number in range(40)]
    plain = np.full((SIZE_PX, SIZE_PX, 3), (200, 160, 190), dtype=np.uint8)
    plain[10:20, 12:25] = (110, 70, 140)
    viewed = draws(patients, np.stack([plain] * 40), kind="colour")
    for image in viewed:
        background, cell = image[0, 0], image[10, 12]
        expected = np.broadcast_to(background, plain.shape).copy()
        expected[10:20, 12:25] = cell
        np.testing.assert_array_equal(image, expected)
        assert not np.array_equal(image, plain)
        assert background.astype(int).sum() > cell.astype(int).sum()
        assert np.ptp(cell.astype(int)) > 10, "grey is no stain"
    assert viewed[:, 0, 0].astype(float).std(axis=0).min() > 5
    again = draws(patients, np.stack([plain] * 40), kind="colour", view=2)
    assert not np.array_equal(viewed, again)


def test_colour_views_are_recorded_stored_and_not_mixed_with_shared_ones(
    cohort_dir, tmp_path, encoder
):
    store = tmp_path / "a.zarr"
    run(cohort_dir, store, encoder, views="colour:2")
    with open_store(store) as opened:
        assert opened.manifest.views == ("identity", "colour1", "colour2")
        recorded = opened.manifest.preprocessing["shared_views"]
        assert recorded == describe_shared_views("colour", SIZE_PX)
        assert (recorded["jitter"], recorded["hue"]) == (0.3, 0.05)
        views = all_views(opened.read("CTL")).astype(np.float32)
    assert all(np.abs(view - views[0]).mean() > 1e-4 for view in views[1:])
    with pytest.raises(StoreMismatchError, match="colour1"):
        run(cohort_dir, store, encoder, views="shared:2")


def test_images_of_nobody_stay_as_they_are():
    images = cells(4)
    viewed = draws(["A"], images)
    np.testing.assert_array_equal(viewed[1:], images[1:])


def test_a_stored_view_is_the_encoding_of_the_augmented_image(cohort_dir, tmp_path, encoder):
    run(cohort_dir, tmp_path / "a.zarr", encoder, dtype="float32", **SHARED)
    paths = [cohort_dir / f"data/AML/BZF/image_{number}.png" for number in range(4)]
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    engine = TorchEngine(
        encoder,
        device=torch.device("cpu"),
        precision="fp32",
        views=("identity",),
        is_folded=True,
    )
    with open_store(tmp_path / "a.zarr") as store:
        stored = store.read("BZF").views
    for view in (1, 2, 3):
        expected = engine.encode(draws(["BZF"] * 4, images, view=view))[0]
        np.testing.assert_allclose(stored[view - 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_untouched_view_is_there_and_the_others_differ(cohort_dir, store_path, engine):
    encoder = tiny_encoder()
    run(cohort_dir, store_path, encoder, engine=engine, **SHARED)
    plain = store_path.with_name(f"plain{store_path.suffix}")
    run(cohort_dir, plain, encoder, engine=engine, views="identity")
    with open_store(store_path) as store, open_store(plain) as other:
        assert store.manifest.views == ("identity", "shared1", "shared2", "shared3")
        for bag_id in store.bag_ids:
            views = all_views(store.read(bag_id)).astype(np.float32)
            np.testing.assert_array_equal(views[0], other.read(bag_id).features)
            assert all(np.abs(view - views[0]).mean() > 1e-4 for view in views[1:])


def test_the_recipe_and_its_seed_are_recorded_and_enough_to_draw_again(
    cohort_dir, store_path, encoder
):
    run(cohort_dir, store_path, encoder, **SHARED)
    with open_store(store_path) as store:
        recorded = store.manifest.preprocessing["shared_views"]
        assert recorded == describe_shared_views("shared", SIZE_PX)
        assert (recorded["seed"], recorded["min_scale"], recorded["hue"]) == (0, 0.5, 0.2)
        assert {"albumentations", "opencv-python-headless"} <= set(
            store.manifest.numerics["versions"]
        )


def test_an_interrupted_run_is_finished_to_the_same_bytes(
    cohort_dir, store_path, tmp_path, encoder
):
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    run(cohort_dir, undisturbed, encoder, **SHARED)
    interrupted = iter(start(cohort_dir, store_path, encoder, **SHARED))
    next(interrupted)
    next(interrupted)
    interrupted.close()
    run(cohort_dir, store_path, encoder, **SHARED)
    assert bag_bytes(store_path) == bag_bytes(undisturbed)
    assert not run(cohort_dir, store_path, encoder, **SHARED).needs_attention


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_of_flips_are_resumed_to_the_same_bytes_and_are_maps_of_flipped_images(
    cohort_dir, tmp_path, engine
):
    encoder = load_encoder(
        "test_resnet", weights="random:0", image_size_px=64, features="map", layer="layer3"
    )
    one, two = tmp_path / "one.zarr", tmp_path / "two.zarr"
    run(cohort_dir, one, encoder, engine=engine)
    interrupted = iter(start(cohort_dir, two, encoder, engine=engine))
    next(interrupted)
    next(interrupted)
    interrupted.close()
    run(cohort_dir, two, encoder, engine=engine)
    assert bag_bytes(one) == bag_bytes(two)
    mirror_images(cohort_dir)
    run(cohort_dir, tmp_path / "mirrored.zarr", encoder, engine=engine, views="identity")
    with open_store(one) as store, open_store(tmp_path / "mirrored.zarr") as mirrored:
        for bag_id in store.bag_ids:
            np.testing.assert_array_equal(
                store.read(bag_id).views[0], mirrored.read(bag_id).features
            )


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ({}, {"layer": "layer2"}, ["layer2", "feature_shape"]),
        ({}, {"features": "map"}, ["feature_shape", "(96, 1, 1)"]),
        ({"layer": "layer4"}, {}, ["preprocessing", "layer4"]),
        ({"layer": "layer4"}, {"layer": "layer4.0"}, ["layer4.0"]),
    ],
)
def test_stores_of_other_layers_or_maps_are_not_mixed(cohort_dir, tmp_path, first, second, values):
    def tapped(where):
        return load_encoder("test_resnet", weights="random:0", image_size_px=SIZE_PX, **where)

    store = tmp_path / "a.zarr"
    run(cohort_dir, store, tapped(first), views="identity")
    with pytest.raises(StoreMismatchError) as caught:
        run(cohort_dir, store, tapped(second), views="identity")
    assert all(value in str(caught.value) for value in values), str(caught.value)


def test_shared_views_are_not_mixed_with_flips_nor_with_another_number(
    cohort_dir, store_path, encoder
):
    run(cohort_dir, store_path, encoder, **SHARED)
    for views, value in (("flips", "hflip"), ("shared:4", "shared4"), ("identity", "shared3")):
        with pytest.raises(StoreMismatchError, match=value):
            run(cohort_dir, store_path, encoder, views=views)


def test_another_version_of_the_augmenting_library_is_refused(
    cohort_dir, store_path, encoder, monkeypatch
):
    run(cohort_dir, store_path, encoder, **SHARED)
    versions = numerics.library_versions
    monkeypatch.setattr(
        numerics, "library_versions", lambda *names: {**versions(*names), "albumentations": "9.9"}
    )
    with pytest.raises(NumericsMismatchError, match=r"albumentations 9\.9"):
        run(cohort_dir, store_path, encoder, **SHARED)


def test_the_precision_check_knows_shared_views(cohort_dir, tmp_path, encoder):
    summary = run(
        cohort_dir, tmp_path / "a.zarr", encoder, check_precision=20, dtype="float32", **SHARED
    )
    assert summary.precision.min_cosine > 0.999999


def test_names_of_views():
    assert view_names("shared:2") == ("identity", "shared1", "shared2")
    assert view_names("colour:1") == ("identity", "colour1")
    kinds = [shared_kind(view_names(v)) for v in ("shared:2", "colour:3", "flips", "identity")]
    assert kinds == ["shared", "colour", None, None]


@pytest.mark.parametrize("views", ["identity", "flips", "shared:4", "colour:1"])
def test_the_set_of_views_is_found_again_by_their_names(views):
    assert view_set(view_names(views)) == views
    assert view_set(("identity", "7")) == "identity,7"


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("shared:1", "K of at least 2, got 'shared:1'"),
        ("shared:0", "K of at least 2"),
        ("colour:0", "K of at least 1, got 'colour:0'"),
        ("shared:", "flips, identity, shared:K or colour:K"),
        ("shared:2.5", "flips, identity, shared:K or colour:K"),
        ("colors:2", "flips, identity, shared:K or colour:K"),
        ("flip", "flips, identity, shared:K or colour:K, got 'flip'"),
    ],
)
def test_other_sets_of_views_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        EmbedConfig(views=views)


def test_the_command_embeds_shared_views_of_a_layers_maps(cohort_dir, tmp_path, capsys):
    aml_mil = runner(capsys)
    words = ["embed", cohort_dir, "--encoder", "test_resnet", "--weights", "random:0"]
    words += ["--image-size", 32, "--out", tmp_path / "a.zarr", "--device", "cpu"]
    done = aml_mil(*words, "--views", "shared:2", "--layer", "layer3", "--features", "map")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "a.zarr/manifest.json").read_text())
    assert manifest["feature_shape"] == [192, 2, 2]
    assert manifest["views"] == ["identity", "shared1", "shared2"]
    refused = aml_mil(*words, "--views", "shared:1")
    assert refused.code == 2
    assert "K of at least 2" in refused.err
    refused = aml_mil(*words, "--views", "shared:2", "--layer", "layer33")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "nearest: layer3" in refused.err
