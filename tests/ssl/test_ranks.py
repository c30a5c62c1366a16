import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from aml_mil.ranks import gather_rows, num_ranks, rank, sum_over_ranks
from aml_mil.ssl.batch_norm import SharedBatchNorm, share_batch_norms
from aml_mil.ssl.method import RunLength
from aml_mil.ssl.methods import CONFIGS, build_method
from aml_mil.ssl.ntxent import nt_xent_loss
from aml_mil.ssl.sinkhorn import sinkhorn
from aml_mil.ssl.trainer import Trainer
from tests.ssl.runs import small_config

NUM_STEPS = 5


def test_one_process_alone_changes_nothing() -> None:
    rows = torch.randn(3, 2)
    assert (num_ranks(), rank()) == (1, 0)
    assert gather_rows(rows) is rows
    assert sum_over_ranks(rows) is rows


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
def test_a_shared_norm_alone_equals_torch_s(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    reference = nn.BatchNorm1d(4) if len(shape) == 2 else nn.BatchNorm2d(4)
    with torch.no_grad():
        reference.weight.uniform_(0.5, 2)
        reference.bias.normal_()
    shared = share_batch_norms(
        nn.Sequential(nn.BatchNorm1d(4) if len(shape) == 2 else nn.BatchNorm2d(4)),
        device_type="cpu",
    )
    assert isinstance(shared[0], SharedBatchNorm)
    shared[0].load_state_dict(reference.state_dict())
    for _ in range(3):
        images = torch.randn(shape) * 3 + 1
        torch.testing.assert_close(shared(images), reference(images))
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(shared[0].state_dict()[name], value)
    reference.eval()
    shared.eval()
    torch.testing.assert_close(shared(images), reference(images))


def test_shared_norms_keep_the_very_parameters_and_what_is_frozen() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    network.requires_grad_(requires_grad=False)
    before = list(network.parameters())
    share_batch_norms(network, device_type="cpu")
    assert isinstance(network[1], SharedBatchNorm)
    assert all(a is b for a, b in zip(before, network.parameters(), strict=True))


def train_a_share(method: str, num_processes: int) -> dict[str, list[float]]:
    """Train on this process's share of batches of 8."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = (
        small_config(method, epochs=1, queue_start=0.0)
        if method == "swav"
        else small_config(method, epochs=1)
    )
    built = build_method(config, RunLength(epochs=1, steps_per_epoch=NUM_STEPS), num_types=3)
    trainer = Trainer(built, device=torch.device("cpu"), precision="fp32")
    generator = torch.Generator().manual_seed(1)
    share = 8 // num_processes
    own = slice(rank() * share, (rank() + 1) * share)
    sizes = {"swav": (32, 32, 16), "dino": (32, 32, 16), "simclr": (32, 32), "supervised": (32,)}
    losses = []
    for step in range(NUM_STEPS):
        crops = [
            torch.randint(256, (8, s, s, 3), generator=generator, dtype=torch.uint8)
            for s in sizes[method]
        ]
        output = trainer.step([c[own] for c in crops], (torch.arange(8) % 3)[own], step=step)
        losses.append(float(sum_over_ranks(output.loss) / num_ranks()))
    weights = [float(value.double().abs().sum()) for value in built.state_dict().values()]
    return {"losses": losses, "weights": weights}


def compute_parts(out: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 8, 5, generator=generator, dtype=torch.float64)
    share = 8 // num_ranks()
    own = slice(rank() * share, (rank() + 1) * share)
    a, b = first[own].clone().requires_grad_(), second[own].clone().requires_grad_()
    loss = nt_xent_loss(a, b, temperature=0.2)
    (gradient,) = torch.autograd.grad(loss, a)
    assigned = sinkhorn(first[own].tanh(), epsilon=0.05, num_iterations=3)
    total = float(sum_over_ranks(loss.detach())) / num_ranks()
    rows = gather_rows(gradient / num_ranks())
    if rank() == 0:
        found = {
            "loss": total,
            "gradient": rows.tolist(),
            "sinkhorn": gather_rows(assigned).tolist(),
        }
        out.write_text(json.dumps(found))
    else:
        gather_rows(assigned)


def run_process(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=process, world_size=2)
    try:
        compute_parts(Path(folder) / "parts.json")
        for method in CONFIGS:
            found = train_a_share(method, 2)
            if process == 0:
                (Path(folder) / f"{method}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_same_batches(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(run_process, args=(str(tmp_path),), nprocs=2)
    parts = json.loads((tmp_path / "parts.json").read_text())
    compute_parts(tmp_path / "alone.json")
    alone = json.loads((tmp_path / "alone.json").read_text())
    for name, value in alone.items():
        torch.testing.assert_close(
            torch.tensor(parts[name], dtype=torch.float64), torch.tensor(value, dtype=torch.float64)
        )
    for method in CONFIGS:
        shared = json.loads((tmp_path / f"{method}.json").read_text())
        single = train_a_share(method, 1)
        assert shared["losses"] == pytest.approx(single["losses"], rel=1e-4), method
        assert shared["weights"] == pytest.approx(single["weights"], rel=1e-3, abs=1e-5), method
