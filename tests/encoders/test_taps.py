"""Maps and earlier layers: the very numbers the whole encoder passes through."""

import copy

import pytest
import torch

from aml_mil.encoders import EncoderError, load_encoder


def load(name="test_resnet", size_px=32, **where):
    return load_encoder(name, weights="random:0", image_size_px=size_px, **where)


def images(size_px=32):
    return torch.rand(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def encode(encoder, batch):
    with torch.inference_mode():
        return encoder.module(batch)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "torchvision:squeezenet1_0"])
def test_the_vector_is_the_mean_over_the_positions_of_the_map(name):
    maps = encode(load(name, 64, features="map"), images(64))
    vectors = encode(load(name, 64), images(64))
    assert maps.shape[2] > 1
    torch.testing.assert_close(maps.mean((2, 3)), vectors)


def test_resnet18_gives_maps_of_five_positions_a_side_at_144_px():
    assert load("resnet18", 144, features="map").feature_shape == (512, 5, 5)
    assert load("resnet18", 144, layer="layer3").feature_shape == (256,)
    assert load("resnet18", 144, layer="layer3", features="map").feature_shape == (256, 9, 9)


@pytest.mark.parametrize(
    ("name", "layer"), [("test_resnet", "layer3"), ("torchvision:squeezenet1_0", "features.7")]
)
def test_a_layers_map_is_what_the_whole_network_computes_there(name, layer):
    seen = []
    backbone = copy.deepcopy(load(name, 64).module.backbone)
    backbone.get_submodule(layer).register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.inference_mode():
        backbone(images(64))
    cut = load(name, 64, layer=layer, features="map")
    assert torch.equal(encode(cut, images(64)), seen[0])
    assert torch.equal(encode(load(name, 64, layer=layer), images(64)), seen[0].mean((2, 3)))


def test_what_comes_after_the_layer_plays_no_part():
    encoder = load(layer="layer3")
    expected = encode(encoder, images())
    encoder.module.backbone.layer4.apply(
        lambda m: [p.data.fill_(torch.nan) for p in m.parameters()]
    )
    assert torch.equal(encode(encoder, images()), expected)


def test_a_copy_of_a_cut_encoder_is_in_evaluation_mode_too():
    module = load(layer="layer3").module
    copied = copy.deepcopy(module)
    assert not any(m.training for m in copied.modules())
    with torch.inference_mode():
        assert torch.equal(copied(images()), module(images()))


def test_weights_and_their_hash_do_not_depend_on_where_features_are_taken():
    assert load(layer="layer3").weights_sha256 == load(features="map").weights_sha256
    assert load().weights_sha256 == load(features="map").weights_sha256


def test_the_layer_is_part_of_what_a_store_records_and_its_absence_adds_nothing():
    assert load(layer="layer3").preprocessing["layer"] == "layer3"
    assert "layer" not in load().preprocessing


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("test_resnet", {"layer": "layer9"}, "no layer 'layer9'.*nearest: layer.*stages: conv1"),
        ("test_vit", {"features": "map"}, r"no map of positions at the last layer.*\[D, h, h\]"),
        ("test_vit", {"layer": "blocks.1"}, "cannot be cut after layer 'blocks.1'"),
        ("test_resnet", {"layer": "global_pool"}, "no map of positions at layer global_pool"),
    ],
)
def test_what_has_no_map_or_no_such_layer_is_refused(name, where, message):
    with pytest.raises(EncoderError, match=message):
        load(name, **where)
