"""Images a second of lightly's modules, put together as its documentation says.

    python -m benchmarks.pretrain_lightly FOLDER [--methods simclr,swav,dino] [--steps 20]
        [--batch-size 512] [--image-size 144] [--local-size 64] [--workers 1] [--json FILE]

For an environment of its own with lightly in it; nothing of aml-mil is imported. FOLDER holds the
images, at any depth. Same encoder, batch, crop sizes and number format as
`benchmarks.pretrain_throughput`; files are decoded each time, as lightly's dataset does.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss, NTXentLoss, SwaVLoss
from lightly.models.modules import (
    DINOProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.utils import update_momentum
from lightly.transforms import DINOTransform, SimCLRTransform, SwaVTransform
from torch import Tensor, nn

WARM_UP_STEPS = 2
NUM_GLOBAL = 2


def backbone() -> nn.Module:
    """Build ResNet-18 as lightly's examples do."""
    return nn.Sequential(*list(torchvision.models.resnet18().children())[:-1], nn.Flatten())


class Simclr(nn.Module):
    """lightly's example of SimCLR."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()
        self.head = SimCLRProjectionHead(512, 512, 64)
        self.criterion = NTXentLoss(temperature=0.1)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Compute the loss."""
        first, second = (self.head(self.backbone(view)) for view in views)
        return self.criterion(first, second)


class Swav(nn.Module):
    """lightly's example of SwAV."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()
        self.head = SwaVProjectionHead(512, 2048, 128)
        self.prototypes = SwaVPrototypes(128, n_prototypes=300)
        self.criterion = SwaVLoss(sinkhorn_epsilon=0.05)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Compute the loss."""
        self.prototypes.normalize()
        scores = []
        for view in views:
            projected = self.head(self.backbone(view))
            scores.append(self.prototypes(nn.functional.normalize(projected, dim=1)))
        return self.criterion(scores[:NUM_GLOBAL], scores[NUM_GLOBAL:])


class Dino(nn.Module):
    """lightly's example of DINO."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.head = backbone(), DINOProjectionHead(512, 2048, 256, 4096)
        self.teacher = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.teacher_head = DINOProjectionHead(512, 2048, 256, 4096)
        self.teacher_head.requires_grad_(requires_grad=False)
        self.criterion = DINOLoss(output_dim=4096)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Move the teacher and compute the loss."""
        update_momentum(self.student, self.teacher, m=0.996)
        update_momentum(self.head, self.teacher_head, m=0.996)
        with torch.no_grad():
            targets = [self.teacher_head(self.teacher(view)) for view in views[:NUM_GLOBAL]]
        guesses = [self.head(self.student(view)) for view in views]
        return self.criterion(targets, guesses, epoch=0)


def transform(name: str, *, size_px: int, local_px: int) -> Callable[[Any], list[Tensor]]:
    """Build lightly's own views of a method."""
    if name == "simclr":
        return SimCLRTransform(input_size=size_px)
    if name == "swav":
        return SwaVTransform(crop_sizes=(size_px, local_px))
    return DINOTransform(
        global_crop_size=size_px,
        local_crop_size=local_px,
        global_crop_scale=(0.14, 1.0),
        local_crop_scale=(0.05, 0.14),
        n_local_views=8,
    )


def measure(name: str, options: argparse.Namespace, device: torch.device) -> float:
    """Time one method; source images a second."""
    torch.manual_seed(0)
    views = transform(name, size_px=options.image_size_px, local_px=options.local_size_px)
    loader = torch.utils.data.DataLoader(
        LightlyDataset(str(options.folder), transform=views),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    method = {"simclr": Simclr, "swav": Swav, "dino": Dino}[name]()
    method = method.to(device).to(memory_format=torch.channels_last)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.06)
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    done, began = 0, 0.0
    while True:
        for crops, *_ in loader:
            images = [crop.to(device, non_blocking=True) for crop in crops]
            with torch.autocast(device.type, dtype):
                loss = method(images)
            optimiser.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            done += 1
            if done in (WARM_UP_STEPS, WARM_UP_STEPS + options.steps):
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if done > WARM_UP_STEPS:
                    return options.batch_size * options.steps / (time.perf_counter() - began)
                began = time.perf_counter()


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="simclr,swav,dino")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--image-size", dest="image_size_px", type=int, default=144)
    parser.add_argument("--local-size", dest="local_size_px", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    rates = {name: measure(name, options, device) for name in options.methods.split(",")}
    for name, rate in rates.items():
        print(f"lightly {name}: {rate:.1f} images a second")
    if options.json:
        options.json.write_text(json.dumps(rates, indent=2) + "\n")


if __name__ == "__main__":
    main()
