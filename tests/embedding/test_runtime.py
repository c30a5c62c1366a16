"""Device, precision and seeds."""

import numpy as np
import pytest
import torch

from aml_mil import runtime
from aml_mil.runtime import (
    DeviceError,
    count_cores,
    library_versions,
    resolve_device,
    resolve_precision,
    seed_everything,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("has_cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_cuda_where_there_is_one(monkeypatch, has_cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(DeviceError, match="auto"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("device", "native", "expected"),
    [(CUDA, False, "fp16"), (CPU, True, "bf16"), (CPU, False, "fp32")],
)
def test_auto_precision_is_what_the_device_multiplies_fastest(
    monkeypatch, device, native, expected
):
    monkeypatch.setattr(runtime, "has_native_bf16", lambda: native)
    assert resolve_precision("auto", device) == expected


def test_bf16_counts_as_native_only_with_instructions_for_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bw": True})
    assert not runtime.has_native_bf16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert runtime.has_native_bf16()


def test_a_named_precision_is_kept_or_refused():
    assert resolve_precision("bf16", CUDA) == "bf16"
    with pytest.raises(DeviceError, match="fp16 is for CUDA"):
        resolve_precision("fp16", CPU)
    with pytest.raises(ValueError, match="unknown precision 'int8'"):
        resolve_precision("int8", CPU)


def test_versions_are_those_installed():
    assert library_versions("torch", "numpy") == {
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
    }


def test_seeding_repeats_both_generators():
    draws = []
    for _ in range(2):
        seed_everything(4)
        draws.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
    assert draws[0] == draws[1]


def test_there_is_at_least_one_core():
    assert count_cores() >= 1
