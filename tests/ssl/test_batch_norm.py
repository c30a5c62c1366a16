import torch
from torch import nn

from aml_mil.ssl.batch_norm import SharedBatchNorm, norms_of, share_batch_norms


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def images() -> torch.Tensor:
    return 2 + 3 * torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_norms_take_the_statistics_of_the_images_and_give_their_own_back() -> None:
    net = network()
    net(images() * 5)  # statistics of training
    before = {name: value.clone() for name, value in net.state_dict().items()}
    convolved = net[0](images())
    with norms_of(net, images().split(4)):
        torch.testing.assert_close(net[1].running_mean, convolved.mean((0, 2, 3)))
        net.eval()
        normalised = net[1](convolved)
        assert normalised.mean((0, 2, 3)).abs().max() < 1e-5
        assert ((normalised.std((0, 2, 3)) - 1).abs() < 0.1).all()
    net.train()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert net[1].momentum == 0.1


def test_a_network_in_evaluation_mode_stays_there() -> None:
    net = network().eval()
    with norms_of(net, [images()]):
        assert not any(module.training for module in net.modules())


def test_the_norm_of_several_processes_averages_all_batches_as_torch_s_does() -> None:
    shared, plain = SharedBatchNorm(3, momentum=None), nn.BatchNorm2d(3, momentum=None)
    for batch in images().split(4):
        torch.testing.assert_close(shared(batch), plain(batch))
    torch.testing.assert_close(shared.running_mean, plain.running_mean)
    torch.testing.assert_close(shared.running_var, plain.running_var)


def test_a_norm_without_scale_and_shift_stays_one() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=False))
    shared = share_batch_norms(nn.Sequential(nn.BatchNorm2d(3, affine=False)), device_type="cpu")
    assert not list(shared.parameters())
    torch.testing.assert_close(shared(images()), plain(images()))


def test_a_network_without_norms_is_left_alone() -> None:
    net = nn.Linear(3, 2)
    with norms_of(net, [torch.zeros(4, 3)]):
        assert net(torch.zeros(1, 3)).shape == (1, 2)
