import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from aml_mil.ssl.lowered_conv import LoweredConv2d, lower_small_maps


def pair(*, stride: int, side: int, padding: int) -> tuple[nn.Conv2d, LoweredConv2d]:
    plain = nn.Conv2d(6, 5, side, stride, padding, bias=False, dtype=torch.float64)
    lowered = LoweredConv2d(6, 5, side, stride, padding, bias=False, dtype=torch.float64)
    lowered.load_state_dict(plain.state_dict())
    return plain, lowered


def results(network: nn.Module, images: Tensor, seen: Tensor | None = None) -> list[Tensor]:
    """Output, gradient of the images, and gradients of the weights."""
    images = images.clone().requires_grad_()
    output = network(images)
    output.backward(torch.ones_like(output) if seen is None else seen)
    assert images.grad is not None
    return [output, images.grad, *(p.grad for p in network.parameters() if p.grad is not None)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "padding"), [(3, 1), (3, 0), (2, 0), (5, 2)])
@pytest.mark.parametrize("size", [5, 6, 8])
def test_output_and_gradients_are_those_of_the_convolution(
    stride: int, side: int, padding: int, size: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    plain, lowered = pair(stride=stride, side=side, padding=padding)
    images = torch.randn(3, 6, size, size + 1, dtype=torch.float64, generator=generator)
    seen = torch.randn(plain(images).shape, dtype=torch.float64, generator=generator)
    for ours, theirs in zip(
        results(lowered, images, seen), results(plain, images, seen), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_only_small_maps_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lowered = pair(stride=1, side=3, padding=1)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("not a product"))
    lowered(torch.zeros(1, 6, 4, 4, dtype=torch.float64))
    with pytest.raises(pytest.fail.Exception, match="not a product"):
        lowered(torch.zeros(1, 6, 5, 4, dtype=torch.float64))


def test_a_resnet_keeps_its_parameters_and_its_gradients() -> None:
    plain = timm.create_model("resnet18", num_classes=0).double()
    lowered = copy.deepcopy(plain)
    lower_small_maps(lowered)
    assert lowered.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(lowered.layer4[0].conv1, LoweredConv2d)
    assert not isinstance(lowered.layer4[0].downsample[0], LoweredConv2d)  # 1 x 1
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(results(lowered, images), results(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_autocast_multiplies_in_its_dtype() -> None:
    lowered = LoweredConv2d(6, 5, 3, padding=1, bias=False)
    images = torch.randn(2, 6, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = lowered(images)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert lowered.weight.grad is not None
    assert lowered.weight.grad.dtype == torch.float32
    torch.testing.assert_close(output.float(), lowered(images), rtol=0.05, atol=0.05)


def test_other_convolutions_are_left_alone() -> None:
    grouped = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, dilation=2, bias=False),
        nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.Conv2d(4, 4, 3, bias=True),
    )
    lower_small_maps(grouped)
    assert [type(module) for module in grouped] == [nn.Conv2d] * 4
