"""Bags a second of torchmil's ABMIL under torchmil's own trainer.

    python -m benchmarks.fit_torchmil [--cells 467] [--bags 40] [--epochs 4] [--threads 2]

For an environment of its own with torchmil in it; nothing of aml-mil is imported. The same four
layers reduce the cells; attention and classifier are torchmil's: one attention, two classes. Its
trainer validates every epoch, here on one bag that is not counted. Prints one JSON document.
"""

import argparse
import itertools
import json
import resource
import time

import torch
import torchmetrics
from tensordict import TensorDict
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmil.data import collate_fn
from torchmil.models import ABMIL
from torchmil.utils import Trainer

WIDTHS = (512, 300, 200, 150, 100)


class Bags(Dataset[TensorDict]):
    """Bags of noise in memory."""

    def __init__(self, count: int, cells: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._bags = [torch.randn(cells, WIDTHS[0], generator=generator) for _ in range(count)]

    def __len__(self) -> int:
        return len(self._bags)

    def __getitem__(self, index: int) -> TensorDict:
        return TensorDict({"X": self._bags[index], "Y": torch.tensor(index % 2)})


def main() -> None:
    """Train and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=467)
    parser.add_argument("--bags", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    layers = [
        module
        for width, following in itertools.pairwise(WIDTHS)
        for module in (nn.Linear(width, following), nn.ReLU())
    ]
    model = ABMIL(in_shape=(WIDTHS[0],), att_dim=128, feat_ext=nn.Sequential(*layers))
    trainer = Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True),
        metrics_dict={"accuracy": torchmetrics.Accuracy(task="binary")},
        device="cpu",
        disable_pbar=True,
        verbose=False,
    )
    train = DataLoader(Bags(given.bags, given.cells), batch_size=1, collate_fn=collate_fn)
    validation = DataLoader(Bags(1, given.cells), batch_size=1, collate_fn=collate_fn)
    trainer.train(1, train, validation)
    start, cpu = time.perf_counter(), time.process_time()
    trainer.train(given.epochs, train, validation)
    found = {
        "bags": given.bags * given.epochs,
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
