import numpy as np
import pytest
import torch

from aml_mil.mil.engine.optimiser import StackedSGD, cosine_lr


def _gradients(step, shape):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_steps_are_those_of_torch_sgd(layout, momentum):
    stacked = {"w": torch.ones(3, 4, 2, dtype=torch.float64)}
    ours = StackedSGD(stacked, momentum=momentum)
    plain = [torch.nn.Parameter(torch.ones(4, 2, dtype=torch.float64)) for _ in range(3)]
    nesterov = momentum > 0
    theirs = [torch.optim.SGD([p], lr=0.1, momentum=momentum, nesterov=nesterov) for p in plain]
    for step in range(5):
        gradient = _gradients(step, (3, 4, 2))
        given = gradient if layout == "contiguous" else gradient.mT.contiguous().mT
        ours.step({"w": given}, lr=0.1, stepping=np.ones(3, bool))
        for r in range(3):
            plain[r].grad = gradient[r].clone()
            theirs[r].step()
    for r in range(3):
        torch.testing.assert_close(stacked["w"][r], plain[r].detach(), rtol=0, atol=1e-15)


def test_a_replicate_without_bags_keeps_weights_and_velocity():
    stacked = {"w": torch.zeros(2, 3, dtype=torch.float64)}
    sgd = StackedSGD(stacked, momentum=0.5)
    gradient = {"w": torch.ones(2, 3, dtype=torch.float64)}
    for stepping in ([True, True], [False, True], [True, True]):
        sgd.step(gradient, lr=1.0, stepping=np.array(stepping))
    # By hand: velocities 1, 1.5 (and 1.75); steps 1.5, 1.75 (and 1.875).
    assert stacked["w"][0].tolist() == [-3.25] * 3
    assert stacked["w"][1].tolist() == [-5.125] * 3


def test_those_who_stay_keep_their_velocity():
    sgd = StackedSGD({"w": torch.zeros(3, 1, dtype=torch.float64)}, momentum=0.5)
    sgd.step({"w": torch.tensor([[1.0], [2.0], [4.0]]).double()}, lr=1.0, stepping=np.ones(3, bool))
    kept = sgd.keep([2])
    sgd.step({"w": torch.zeros(1, 1).double()}, lr=1.0, stepping=np.ones(1, bool))
    assert kept["w"].tolist() == [[-4 * 1.5 - 4 * 0.25]]


def test_the_learning_rate_follows_torchs_cosine():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.015)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50)
    for epoch in range(50):
        expected = schedule.get_last_lr()[0]
        assert cosine_lr(0.015, epoch=epoch, epochs=50) == pytest.approx(expected, abs=1e-15)
        optimiser.step()
        schedule.step()
