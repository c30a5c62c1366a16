"""``.pt`` files of one tensor: read without running what is pickled in them.

N instances, D… the shape of one feature.
"""

from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  (the error only: nothing is unpickled here)
from typing import Any

import torch
from numpy.typing import NDArray

from aml_mil.tensor_file import check_extent, load_tensors
from stores.interchange import FeatureSpec, SourceError


class TorchFiles:
    """Reads and writes ``.pt`` files for importers and exporters that know no torch."""

    def describe(self, path: Path) -> FeatureSpec:
        """Read size and type of a tensor ``(N, D…)``.

        Raises:
            SourceError: another file, pickled objects, or a tensor of another kind.
        """
        tensor = _read(path)
        return FeatureSpec(
            num_instances=tensor.shape[0],
            feature_shape=tuple(tensor.shape[1:]),
            dtype=str(tensor.dtype).removeprefix("torch."),
        )

    def load(self, path: Path) -> NDArray[Any]:
        """Read a tensor; ``bfloat16``, which NumPy has not, comes as ``float32``.

        Raises:
            SourceError: as ``describe``.
        """
        tensor = _read(path)
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        values: NDArray[Any] = tensor.contiguous().numpy()
        return values

    def save(self, path: Path, values: NDArray[Any]) -> None:
        """Write a tensor."""
        torch.save(torch.from_numpy(values), path)


def _read(path: Path) -> torch.Tensor:
    try:
        value = load_tensors(path)
    except UnpicklingError as error:
        raise SourceError(
            f"{path} holds pickled Python objects, expected one tensor; nothing of it was run: "
            "save the tensor alone with torch.save"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        raise SourceError(f"{path} cannot be read as a tensor: {_first_line(error)}") from error
    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        raise SourceError(f"{path} holds a {kind}, expected one tensor (N, D)")
    tensor = value.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.ndim < 2:
        raise SourceError(
            f"{path} holds a tensor of shape {tuple(tensor.shape)} ({tensor.layout}), "
            "expected a dense one (N, D)"
        )
    try:
        check_extent(tensor, what="the tensor")
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from error
    return tensor


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
