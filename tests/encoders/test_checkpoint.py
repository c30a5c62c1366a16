"""Our own checkpoints."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from aml_mil.encoders import (
    CheckpointError,
    CheckpointInfo,
    WeightsError,
    load_encoder,
    read_checkpoint,
    save_checkpoint,
)

INFO = CheckpointInfo(
    architecture="timm/test_resnet",
    image_size_px=48,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    trained_on=("AQK", "BZF"),
    recipe={"epochs": 3, "method": "simclr"},
)


@pytest.fixture(scope="module")
def backbone():
    return load_encoder("test_resnet", weights="random:5", image_size_px=32).module.backbone


@pytest.fixture
def path(tmp_path, backbone):
    path = tmp_path / "encoder.safetensors"
    save_checkpoint(path, backbone.state_dict(), INFO)
    return path


def test_a_checkpoint_is_read_as_it_was_saved(path, backbone):
    encoder = load_encoder(str(path))
    assert read_checkpoint(path) == INFO
    assert encoder.image_size_px == 48
    assert (encoder.mean, encoder.std) == (INFO.mean, INFO.std)
    assert encoder.trained_on == ("AQK", "BZF")
    assert encoder.architecture == "timm/test_resnet"
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(encoder.module.backbone.state_dict()[name], tensor)


def test_a_checkpoint_as_weights_says_the_same_as_by_itself(path):
    alone, named = load_encoder(str(path)), load_encoder("test_resnet", weights=path)
    for name in ("name", "weights", "weights_sha256", "trained_on", "preprocessing"):
        assert getattr(alone, name) == getattr(named, name)


def test_the_users_image_size_wins(path):
    assert load_encoder(str(path), image_size_px=32).image_size_px == 32


def test_a_checkpoint_of_torchvision_finds_its_library(tmp_path):
    encoder = load_encoder("torchvision:squeezenet1_1", weights="random:0", image_size_px=64)
    info = CheckpointInfo(architecture=encoder.architecture, image_size_px=64)
    save_checkpoint(tmp_path / "a.safetensors", encoder.module.backbone.state_dict(), info)
    assert load_encoder(str(tmp_path / "a.safetensors")).name == "torchvision:squeezenet1_1"


def test_a_checkpoint_and_further_weights_contradict(path):
    with pytest.raises(WeightsError, match="brings its own weights; drop --weights random:0"):
        load_encoder(str(path), weights="random:0")


def test_a_checkpoint_is_refused_by_another_architecture(path):
    with pytest.raises(WeightsError, match="of timm/test_resnet, not of timm/resnet18"):
        load_encoder("resnet18", weights=path)


def test_a_file_without_record_must_be_named(tmp_path, backbone):
    path = tmp_path / "plain.safetensors"
    save_file(backbone.state_dict(), path)
    with pytest.raises(CheckpointError, match="--encoder NAME --weights"):
        load_encoder(str(path))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "damaged"),
        (json.dumps({"format_version": 1}), "damaged"),
        (json.dumps({"format_version": 2}), "expected a checkpoint of format 1, got 2"),
    ],
)
def test_a_damaged_or_later_record_is_refused(tmp_path, backbone, record, message):
    path = tmp_path / "odd.safetensors"
    save_file(backbone.state_dict(), path, {"aml_mil": record})
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_one_clear_error(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        load_encoder(str(tmp_path / "none.safetensors"))


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, backbone, monkeypatch):
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, backbone.state_dict(), INFO)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
