"""Small runs for the tests of training."""

from pathlib import Path

import torch

from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.methods import CONFIGS
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.pretrain import PretrainRun

SMALL = {
    "architecture": "test_resnet",
    "image_size_px": 32,
    "source_size_px": 32,
    "epochs": 3,
    "batch_size": 8,
    "precision": "fp32",
    "device": "cpu",
    "workers": 0,
}
OF_METHOD = {
    "simclr": {"lr": 2.0, "head_hidden": 16, "head_out": 8, "min_scale": 0.5},
    "swav": {
        "prototypes": 12,
        "head_hidden": 16,
        "head_out": 8,
        "queue_length": 16,
        "local_crops": 1,
        "local_size_px": 16,
        "split_scale": 0.5,
        "min_scale": 0.3,
    },
    "dino": {
        "outputs": 12,
        "head_hidden": 16,
        "head_bottleneck": 8,
        "local_crops": 1,
        "local_size_px": 16,
        "split_scale": 0.5,
        "min_scale": 0.3,
    },
    "supervised": {"lr": 0.01},
}


def small_config(method: str, **changes: object) -> PretrainConfig:
    """Settings under which an epoch of 24 images takes a fraction of a second."""
    return CONFIGS[method](**(SMALL | OF_METHOD[method] | changes))


def small_run(
    method: str, pool: ImagePool, out: Path, *, is_resumed: bool = False, **changes: object
) -> PretrainRun:
    """A run on the CPU."""
    config = small_config(method, **changes)
    return PretrainRun(pool, config, out, device=torch.device("cpu"), is_resumed=is_resumed)


def finish(run: PretrainRun) -> PretrainRun:
    """Train to the end."""
    for _ in run.train():
        pass
    return run
