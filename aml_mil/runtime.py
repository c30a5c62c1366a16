"""What the machine offers: device, precision, library versions; and the one place that seeds."""

import os
import platform
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aml_mil.errors import AmlMilError

Precision = Literal["fp32", "fp16", "bf16"]

PRECISION_DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class DeviceError(AmlMilError):
    """The device or precision asked for is not there."""


def resolve_device(device: str) -> torch.device:
    """Turn what the user asked for into a device that is there.

    Args:
        device: ``auto`` (CUDA where there is one, else the CPU), or any name torch knows.

    Returns:
        The device.

    Raises:
        DeviceError: The name is unknown, or the machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        message = f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N"
        raise DeviceError(message) from error
    if resolved.type not in ("cpu", "cuda"):
        message = f"device {device!r} is not supported; expected auto, cpu, cuda or cuda:N"
        raise DeviceError(message)
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        message = (
            f"device {device!r} asked for, but this machine has {torch.cuda.device_count()} "
            "CUDA devices that torch can use; use --device cpu or auto"
        )
        raise DeviceError(message)
    return resolved


def has_native_bf16() -> bool:
    """Tell whether the CPU multiplies bfloat16 in hardware, so that it is faster than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """Choose the arithmetic of the encoder.

    Args:
        precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
        device: Where the encoder runs.

    Returns:
        For ``auto``: fp16 on CUDA, bf16 on a CPU with native bfloat16, else fp32.

    Raises:
        DeviceError: fp16 on a CPU.
        ValueError: The name is unknown.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "fp16"
        return "bf16" if has_native_bf16() else "fp32"
    if precision not in PRECISION_DTYPES:
        names = ", ".join(["auto", *PRECISION_DTYPES])
        message = f"unknown precision {precision!r}; expected one of {names}"
        raise ValueError(message)
    if precision == "fp16" and device.type == "cpu":
        message = "precision fp16 is for CUDA; on a CPU use bf16 or fp32"
        raise DeviceError(message)
    return precision  # type: ignore[return-value]


def count_cores() -> int:
    """Count the CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_own_cores() -> int:
    """Count the cores for this process alone: its share, where torchrun started several here."""
    return max(1, count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def upload(values: NDArray[Any], device: torch.device) -> Tensor:
    """Bring an array to a device; a GPU fetches it from pinned memory, and nobody waits for it."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def library_versions(*names: str) -> dict[str, str]:
    """Look up installed distributions.

    Args:
        names: Distribution names, such as ``torch``.

    Returns:
        Name → version, in the order asked.
    """
    return {name: metadata.version(name) for name in names}


def describe_device(device: torch.device) -> str:
    """Name the hardware behind a device, for logs."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.machine())


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch and numpy; code of this package takes its own generators.

    Args:
        seed: Zero or above.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (other libraries draw from the global generator)
