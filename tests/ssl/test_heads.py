import pytest
import torch
from torch import nn

from aml_mil.ssl.heads import DinoHead, Prototypes, SimclrHead, SwavHead, WeightNormedLinear


def features(num_images: int = 6, num_features: int = 8) -> torch.Tensor:
    return torch.randn(num_images, num_features, generator=torch.Generator().manual_seed(0))


def test_simclr_s_head_is_linear_relu_linear() -> None:
    head = SimclrHead(8, hidden=5, out=3)
    first, second = head[0], head[2]
    hidden = (features() @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(head(features()), hidden @ second.weight.T + second.bias)
    assert len(head) == 3


def test_swav_s_head_has_three_layers_with_norms_between_and_ends_on_the_sphere() -> None:
    head = SwavHead(8, hidden=(16, 16), out=4)
    kinds = [type(layer) for layer in head.layers]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*block, *block, nn.Linear]
    torch.testing.assert_close(head(features()).norm(dim=1), torch.ones(6))


def test_prototypes_give_cosines_and_return_to_length_one() -> None:
    prototypes = Prototypes(4, 10)
    with torch.no_grad():
        prototypes.weight.mul_(3)
    prototypes.renormalise()
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(10))
    torch.testing.assert_close(prototypes(prototypes.weight.detach()).diagonal(), torch.ones(10))


def test_dino_s_logits_are_cosines_whatever_the_length_of_the_last_weights() -> None:
    head = DinoHead(8, hidden=16, bottleneck=4, num_outputs=7)
    before = head(features())
    with torch.no_grad():
        head.last.weight.mul_(torch.linspace(0.5, 9, 7)[:, None])
    torch.testing.assert_close(head(features()), before)
    assert before.abs().max() <= 1 + 1e-6
    assert sum(isinstance(layer, nn.Linear) for layer in head.layers) == 3


def test_batch_norms_tell_features_apart_that_all_point_one_way() -> None:
    alike = 10 + 0.01 * features(64)

    def spread(*, has_batch_norm: bool) -> float:
        torch.manual_seed(0)
        head = DinoHead(8, hidden=16, bottleneck=4, num_outputs=7, has_batch_norm=has_batch_norm)
        return head(alike).std(0).mean().item()

    assert spread(has_batch_norm=False) < 0.01
    assert spread(has_batch_norm=True) > 0.1


def test_an_output_norm_takes_away_what_all_projections_share() -> None:
    alike = 10 + 0.01 * features(64)

    def shared(*, has_output_norm: bool) -> list[float]:
        torch.manual_seed(0)
        swav = SwavHead(8, hidden=(), out=4, has_output_norm=has_output_norm)
        dino = DinoHead(8, hidden=16, bottleneck=4, num_outputs=4, has_output_norm=has_output_norm)
        dino.last = nn.Identity()  # type: ignore[assignment]
        return [head(alike).mean(0).norm().item() for head in (swav, dino)]

    assert min(shared(has_output_norm=False)) > 0.9
    assert max(shared(has_output_norm=True)) < 0.2


def test_the_last_layer_equals_torch_s_weight_norm_of_length_one() -> None:
    layer = WeightNormedLinear(4, 7)
    reference = nn.utils.parametrizations.weight_norm(nn.Linear(4, 7, bias=False))
    with torch.no_grad():
        reference.parametrizations.weight.original0.fill_(1.0)
        reference.parametrizations.weight.original1.copy_(layer.weight)
    torch.testing.assert_close(layer(features(6, 4)), reference(features(6, 4)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_heads_work_under_autocast(dtype: torch.dtype) -> None:
    heads = (
        SwavHead(8, hidden=(16, 16), out=4),
        DinoHead(8, hidden=16, bottleneck=4, num_outputs=7),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for head in heads:
            assert head(features()).isfinite().all()
