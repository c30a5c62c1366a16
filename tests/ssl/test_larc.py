import pytest
import torch
from torch import nn

from aml_mil.ssl.larc import clip_gradients, scale_gradients
from aml_mil.ssl.method import OptimiserSettings, StepValues
from aml_mil.ssl.optimiser import LayerwiseOptimiser


class Toy(nn.Module):
    def __init__(self, settings: OptimiserSettings) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3).double()
        self.settings = settings

    @property
    def optimiser(self) -> OptimiserSettings:
        return self.settings


def with_gradient(weights: list[float], gradient: list[float]) -> torch.Tensor:
    parameter = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    return parameter


def test_a_gradient_gets_the_trusted_share_of_its_weights_length() -> None:
    weights = with_gradient([3.0, 4.0], [0.0, 100.0])
    scale_gradients([weights], trust_coefficient=0.001)
    assert weights.grad.tolist() == pytest.approx([0.0, 0.005])


def test_the_decay_is_part_of_the_scaled_gradient() -> None:
    weights = with_gradient([3.0, 4.0], [0.0, 1.0])
    scale_gradients([weights], trust_coefficient=0.1, weight_decay=0.2, epsilon=0.0)
    rate = 0.1 * 5 / (1 + 0.2 * 5)
    assert weights.grad.tolist() == pytest.approx([rate * 0.6, rate * 1.8])


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    small, large = with_gradient([1.0, 2.0], [0.3, 0.1]), with_gradient([1.0, 2.0], [300, 100])
    scale_gradients([small, large], trust_coefficient=0.001)
    torch.testing.assert_close(small.grad, large.grad)


def test_each_gradient_has_its_own_rate() -> None:
    first, second = with_gradient([3.0, 4.0], [0.0, 2.0]), with_gradient([1.0, 0.0], [5.0, 0.0])
    bare = torch.ones(2, requires_grad=True)
    scale_gradients([first, bare, second], trust_coefficient=0.1, epsilon=0.0)
    assert first.grad.tolist() == pytest.approx([0.0, 0.5])
    assert second.grad.tolist() == pytest.approx([0.1, 0.0])
    scale_gradients([bare], trust_coefficient=0.1)
    assert bare.grad is None


def test_a_long_gradient_is_clipped_and_no_other() -> None:
    long, short = with_gradient([1.0, 1.0], [30.0, 40.0]), with_gradient([1.0, 1.0], [0.3, 0.4])
    bare = torch.ones(2, requires_grad=True)
    clip_gradients([long, bare, short], max_length=3.0)
    assert long.grad.tolist() == pytest.approx([1.8, 2.4])
    assert short.grad.tolist() == [0.3, 0.4]
    clip_gradients([bare], max_length=3.0)
    for gradient in ([30.0, 40.0], [0.3, 0.4]):
        ours, torchs = with_gradient([1.0, 1.0], gradient), with_gradient([1.0, 1.0], gradient)
        clip_gradients([ours], max_length=3.0)
        nn.utils.clip_grad_norm_(torchs, 3.0)
        assert torch.equal(ours.grad, torchs.grad)


@pytest.mark.parametrize(("weights", "gradient"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0, 0])])
def test_weights_or_gradients_of_zero_are_left_alone(
    weights: list[float], gradient: list[float]
) -> None:
    parameter = with_gradient(weights, gradient)
    scale_gradients([parameter], trust_coefficient=0.001, weight_decay=0.5)
    assert parameter.grad.tolist() == gradient


def test_sgd_with_larc_steps_as_the_formula_says() -> None:
    toy = Toy(OptimiserSettings(name="sgd", momentum=0.9, trust_coefficient=0.01))
    optimiser = LayerwiseOptimiser(toy)
    weight, bias = toy.layer.weight.detach().clone(), toy.layer.bias.detach().clone()
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    for step in range(3):
        gradient = torch.full_like(weight, 1.0 + step)
        toy.layer.weight.grad, toy.layer.bias.grad = gradient.clone(), torch.ones_like(bias)
        optimiser.step(StepValues(lr=0.3, weight_decay=0.1))
        rate = 0.01 * weight.norm() / (gradient.norm() + 0.1 * weight.norm() + 1e-8)
        velocity = 0.9 * velocity + rate * (gradient + 0.1 * weight)
        bias_velocity = 0.9 * bias_velocity + 0.01 * bias.norm() / (3**0.5 + 1e-8)
        weight, bias = weight - 0.3 * velocity, bias - 0.3 * bias_velocity
        torch.testing.assert_close(toy.layer.weight.detach(), weight)
        torch.testing.assert_close(toy.layer.bias.detach(), bias)


def test_adamw_decays_weights_apart_from_the_gradient_and_biases_never() -> None:
    toy = Toy(OptimiserSettings(name="adamw", trust_coefficient=0.001))
    optimiser = LayerwiseOptimiser(toy)
    weight, bias = toy.layer.weight.detach().clone(), toy.layer.bias.detach().clone()
    toy.layer.weight.grad = torch.zeros_like(weight)
    toy.layer.bias.grad = torch.zeros_like(bias)
    optimiser.step(StepValues(lr=0.5, weight_decay=0.4))
    torch.testing.assert_close(toy.layer.weight.detach(), weight * (1 - 0.5 * 0.4))
    torch.testing.assert_close(toy.layer.bias.detach(), bias)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_reloaded_optimiser_goes_on_bit_by_bit(name: str) -> None:
    settings = OptimiserSettings(name=name, trust_coefficient=0.001)

    def step(toy: Toy, optimiser: LayerwiseOptimiser, value: float) -> None:
        toy.layer.weight.grad = torch.full_like(toy.layer.weight, value)
        toy.layer.bias.grad = torch.full_like(toy.layer.bias, value)
        optimiser.step(StepValues(lr=0.1, weight_decay=0.01))

    first = Toy(settings)
    optimiser = LayerwiseOptimiser(first)
    step(first, optimiser, 0.5)
    second = Toy(settings)
    second.load_state_dict(first.state_dict())
    other = LayerwiseOptimiser(second)
    other.load_tensors({k: v.clone() for k, v in optimiser.tensors().items()})
    step(first, optimiser, -0.3)
    step(second, other, -0.3)
    assert torch.equal(first.layer.weight, second.layer.weight)
    assert torch.equal(first.layer.bias, second.layer.bias)
