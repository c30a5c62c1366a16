"""Encoders by name: what is built, and what is refused."""

import time

import numpy as np
import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from safetensors.torch import save_file

from aml_mil.encoders import (
    EncoderError,
    UnknownEncoderError,
    WeightsError,
    load_encoder,
    timm_models,
)

TINY = "test_resnet"
SIZE_PX = 32


def tiny(weights="random:0"):
    return load_encoder(TINY, weights=weights, image_size_px=SIZE_PX)


def images(num=2, size_px=SIZE_PX):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(num, 3, size_px, size_px, generator=generator)


def encode(encoder, batch):
    with torch.inference_mode():
        return encoder.module(batch)


def test_one_seed_gives_the_same_features_and_another_seed_others():
    first, second, other = tiny("random:7"), tiny("random:7"), tiny("random:8")
    assert torch.equal(encode(first, images()), encode(second, images()))
    assert not torch.equal(encode(first, images()), encode(other, images()))
    assert first.weights_sha256 == second.weights_sha256 != other.weights_sha256


def test_random_weights_leave_the_callers_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    tiny("random:9")
    assert torch.equal(torch.rand(4), expected)


def test_random_weights_have_seen_no_patient_and_files_do_not_say(tmp_path):
    encoder = tiny()
    save_file(encoder.module.backbone.state_dict(), tmp_path / "a.safetensors")
    assert encoder.trained_on == ()
    assert tiny(tmp_path / "a.safetensors").trained_on is None


def test_weights_named_from_one_folder_are_found_from_another(tmp_path, monkeypatch):
    save_file(timm.create_model(TINY).state_dict(), tmp_path / "mine.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    first = tiny("mine.safetensors")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tiny(first.weights).weights_sha256 == first.weights_sha256


@pytest.mark.parametrize("name", [TINY, "test_efficientnet", "resnet18"])
def test_a_timm_vector_is_what_timm_pools_without_a_classifier(name):
    encoder = load_encoder(name, weights="random:0", image_size_px=64)
    model = timm.create_model(name, num_classes=0).eval()
    model.load_state_dict(encoder.module.backbone.state_dict())
    with torch.inference_mode():
        expected = model(images(size_px=64))
    found = encode(encoder, images(size_px=64))
    assert encoder.feature_shape == tuple(expected.shape[1:])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_transformer_of_fixed_size_is_built_for_the_images():
    encoder = load_encoder("test_vit", weights="random:0", image_size_px=SIZE_PX)
    assert encode(encoder, images()).shape == (2, *encoder.feature_shape)


def test_squeezenets_vector_is_the_spatial_mean_of_its_features(tmp_path):
    model = torchvision.models.squeezenet1_0(weights=None).eval()
    path = tmp_path / "squeezenet.safetensors"
    save_file(model.state_dict(), path)
    encoder = load_encoder("torchvision:squeezenet1_0", weights=path, image_size_px=64)
    with torch.inference_mode():
        expected = model.features(images(size_px=64)).mean((2, 3))
    assert encoder.feature_shape == (512,)
    torch.testing.assert_close(encode(encoder, images(size_px=64)), expected)


def test_a_torchvision_resnet_gives_what_its_classifier_would_get():
    encoder = load_encoder("torchvision:resnet18", weights="random:0", image_size_px=SIZE_PX)
    with torch.inference_mode():
        expected = encoder.module.backbone(images())  # its fc is an identity
    torch.testing.assert_close(encode(encoder, images()), expected)


def test_torchvision_models_beyond_the_rule_are_refused():
    with pytest.raises(UnknownEncoderError, match="neither a ResNet nor made of `features`"):
        load_encoder("torchvision:shufflenet_v2_x0_5", weights="random:0")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet81", "resnet18"),
        ("resnet_18", "resnet18"),
        ("torchvision:squeezenet", "torchvision:squeezenet1_"),
    ],
)
def test_an_unknown_encoder_is_answered_with_the_nearest_name(name, nearest):
    with pytest.raises(UnknownEncoderError, match=f"nearest name in .*: {nearest}"):
        load_encoder(name, weights="random:0")


@pytest.mark.parametrize("name", [TINY, "torchvision:squeezenet1_0"])
def test_weights_must_be_named_and_never_are_random_unasked(name):
    with pytest.raises(WeightsError, match=r"--weights FILE, --weights timm or .* random:SEED"):
        load_encoder(name)


@pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1"])
def test_a_seed_must_be_a_whole_number(weights):
    with pytest.raises(WeightsError, match="expected random:SEED"):
        tiny(weights)


def test_a_missing_weights_file_is_named_with_the_choices():
    with pytest.raises(WeightsError, match=r"nowhere\.pt: no such file; expected --weights FILE"):
        tiny("nowhere.pt")


@pytest.mark.parametrize("size_px", [0, -1])
def test_an_image_size_must_be_positive(size_px):
    with pytest.raises(EncoderError, match="at least 1 px"):
        load_encoder(TINY, weights="random:0", image_size_px=size_px)


def test_an_image_size_the_network_cannot_take_is_one_clear_error():
    with pytest.raises(EncoderError, match="cannot encode images of 8 px"):
        load_encoder("torchvision:squeezenet1_0", weights="random:0", image_size_px=8)


def test_without_a_network_published_weights_are_one_clear_error_soon(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda *_: None)
    started = time.perf_counter()
    with pytest.raises(WeightsError, match="cannot be reached; use --weights FILE or random:SEED"):
        load_encoder("resnet18", weights="timm")
    assert time.perf_counter() - started < 10


def test_published_weights_in_the_cache_need_no_network(monkeypatch, tmp_path):
    published = timm.create_model("resnet18").state_dict()
    path = tmp_path / "model.safetensors"
    save_file(published, path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda *_: str(path))
    encoder = load_encoder("resnet18", weights="timm")
    loaded = encoder.module.backbone.state_dict()
    assert torch.equal(loaded["layer1.0.conv1.weight"], published["layer1.0.conv1.weight"])
    assert encoder.mean == timm.get_pretrained_cfg("resnet18").mean


def test_timm_publishes_nothing_for_torchvision():
    with pytest.raises(WeightsError, match="publishes no weights for torchvision:squeezenet1_0"):
        load_encoder("torchvision:squeezenet1_0", weights="timm")


def test_the_preprocessing_is_imagenets_at_144_px_where_nobody_says_otherwise():
    encoder = load_encoder(TINY, weights="random:0")
    assert encoder.image_size_px == 144
    np.testing.assert_allclose(encoder.mean, (0.485, 0.456, 0.406))
    np.testing.assert_allclose(encoder.std, (0.229, 0.224, 0.225))
