from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from aml_mil.encoders import WeightsError, load_encoder, read_checkpoint
from aml_mil.encoders.converters import convert_checkpoint, extract_backbone
from tests.limits import little_memory


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def backbone_of(network: nn.Module) -> dict[str, Tensor]:
    return {n: t for n, t in network.state_dict().items() if not n.startswith("fc.")}


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def numbered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {
        ".".join([numbers[name.split(".")[0]], *name.split(".")[1:]]): tensor
        for name, tensor in tensors.items()
    }


def noise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another copy of the network, which must not be taken."""
    return {name: torch.full_like(tensor, 7) for name, tensor in tensors.items()}


def as_saved_by(source: str, network: nn.Module) -> dict[str, Any]:  # noqa: C901
    whole, trunk = dict(network.state_dict()), backbone_of(network)
    row = {"weight": torch.ones(3, 512)}
    match source:
        case "torchvision":
            return whole
        case "timm":
            return {"state_dict": prefixed(whole, "module.")}
        case "swav":
            heads = prefixed(row, "module.prototypes.") | prefixed(row, "module.projection_head.0.")
            return prefixed(trunk, "module.") | heads
        case "vissl":
            model = {"trunk": prefixed(trunk, "_feature_blocks."), "heads": prefixed(row, "0.clf.")}
            return {"classy_state_dict": {"base_model": {"model": model}, "meters": {}}}
        case "dino":
            heads = prefixed(row, "module.head.mlp.0.")
            teacher = prefixed(trunk, "module.backbone.") | heads
            student = prefixed(noise(trunk), "module.backbone.") | heads
            return {"student": student, "teacher": teacher, "epoch": 3}
        case "lightly":
            return {
                "state_dict": prefixed(numbered(trunk), "backbone.")
                | prefixed(row, "projection_head.layers.0.")
                | prefixed(numbered(noise(trunk)), "backbone_momentum.")
            }
        case "lightly-dino":
            return {
                "state_dict": prefixed(numbered(trunk), "teacher_backbone.")
                | prefixed(numbered(noise(trunk)), "student_backbone.")
                | prefixed(row, "student_head.layers.0.")
                | {"criterion.center.center": torch.ones(3)}
            }
        case "solo-learn":
            return {
                "state_dict": prefixed(trunk, "backbone.")
                | prefixed(noise(trunk), "momentum_backbone.")
                | prefixed(row, "projector.0.")
                | prefixed(row, "classifier.")
                | {"queue": torch.ones(2, 3)}
            }
        case "solo-learn-dino":
            return {
                "state_dict": prefixed(trunk, "backbone.")
                | prefixed(noise(trunk), "momentum_backbone.")
                | {
                    f"{head}last_layer.weight_v": torch.ones(4, 2)
                    for head in ("head.", "momentum_head.")
                }
                | prefixed(row, "classifier.")
                | {"dino_loss_func.center": torch.ones(1, 4)}
            }
    raise AssertionError(source)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision", "torchvision"),
        ("timm", "torchvision"),
        ("swav", "torchvision"),
        ("vissl", "vissl"),
        ("dino", "dino"),
        ("lightly", "lightly"),
        ("lightly-dino", "lightly"),
        ("solo-learn", "solo-learn"),
        ("solo-learn-dino", "solo-learn"),
    ],
)
def test_a_converted_encoder_gives_the_network_s_own_features(
    source: str, name: str, network: nn.Module, tmp_path: Path
) -> None:
    published = "swav_800ep_pretrain.pth.tar" if source == "swav" else "theirs.pth"
    path, out = tmp_path / published, tmp_path / "ours.safetensors"
    torch.save(as_saved_by(source, network), path)
    conversion = convert_checkpoint(path, out, architecture="resnet18", image_size_px=64)
    assert conversion.source == name
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.forward_features(images).mean((2, 3))
        torch.testing.assert_close(load_encoder(str(out)).module(images), expected)
    info = read_checkpoint(out)
    assert info.trained_on is None
    assert info.recipe["converted_from"] == name
    assert info.image_size_px == 64


def test_heads_and_other_copies_are_dropped_and_named(network: nn.Module) -> None:
    found = extract_backbone(as_saved_by("lightly", network), what="file")
    assert "projection_head.layers.0.weight" in found.dropped
    assert "backbone_momentum.0.weight" in found.dropped
    assert not any("head" in name or "momentum" in name for name in found.tensors)


@pytest.mark.parametrize("source", ["torchvision", "dino", "lightly", "solo-learn"])
def test_unknown_names_are_listed(source: str, network: nn.Module, tmp_path: Path) -> None:
    content = as_saved_by(source, network)
    inner = content.get("state_dict") or content.get("teacher") or content
    inner["mystery.weight"] = torch.ones(2)
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"unexpected: mystery\.weight \(1\)"):
        convert_checkpoint(
            tmp_path / "theirs.pth", tmp_path / "ours.safetensors", architecture="resnet18"
        )
    assert not (tmp_path / "ours.safetensors").exists()


def test_missing_names_and_other_shapes_are_listed(network: nn.Module, tmp_path: Path) -> None:
    content = as_saved_by("torchvision", network)
    del content["layer3.1.conv2.weight"]
    content["bn1.weight"] = torch.ones(3)
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(
        WeightsError, match=r"missing: layer3\.1\.conv2\.weight \(1\); mismatched: bn1\.weight"
    ):
        convert_checkpoint(
            tmp_path / "theirs.pth", tmp_path / "ours.safetensors", architecture="resnet18"
        )


def test_another_depth_is_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(as_saved_by("vissl", network), tmp_path / "theirs.torch")
    with pytest.raises(WeightsError, match="missing: layer1"):
        convert_checkpoint(
            tmp_path / "theirs.torch", tmp_path / "ours.safetensors", architecture="resnet34"
        )


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {"state_dict": {"a.weight": torch.ones(1)}}, {3: torch.ones(1)}],
)
def test_files_without_a_resnet_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="expected"):
        extract_backbone(content, what="file")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1, dtype=torch.float16).expand(2**40), "claims 2199023255552 bytes"),
        (torch.eye(3).to_sparse(), "expected a dense tensor"),
    ],
    ids=["spread by strides of 0", "sparse"],
)
def test_tensors_that_are_not_whole_in_the_file_are_refused(
    tensor: Tensor, message: str, network: nn.Module, tmp_path: Path
) -> None:
    path, out = tmp_path / "weights.pth", tmp_path / "o.safetensors"
    torch.save(backbone_of(network) | {"layer4.1.conv2.weight": tensor}, path)
    with little_memory(), pytest.raises(WeightsError, match=message):
        convert_checkpoint(path, out, architecture="resnet18")
    assert not out.exists()


def test_files_of_unknown_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(WeightsError, match="ends in one of"):
        convert_checkpoint(
            tmp_path / "weights.h5", tmp_path / "o.safetensors", architecture="resnet18"
        )
