"""Weights: read from files that cannot run code, and loaded without forgiving anything."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  (the error only: nothing is unpickled here)
from typing import TypeGuard

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from aml_mil.encoders.errors import WeightsError, name_keys
from aml_mil.tensor_file import check_extent, load_tensors

# The last is how SwAV and MoCo publish theirs: no archive, whatever it is called.
TORCH_SUFFIXES = (".pt", ".pth", ".pth.tar")
WRAPPERS = ("state_dict", "model")
PARALLEL_PREFIX = "module."


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Args:
        path: A .safetensors file, or a file of torch that holds tensors only, plain or below the
            key ``state_dict`` or ``model``, with or without ``module.`` before every name.

    Returns:
        Name → tensor, in the type they were saved in.

    Raises:
        WeightsError: The file is missing, damaged, holds code, or holds something else.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(TORCH_SUFFIXES):
        return _unwrap(_read_torch(path), path)
    *most, last = (".safetensors", *TORCH_SUFFIXES)
    message = f"{path}: expected weights in a {', '.join(most)} or {last} file"
    raise WeightsError(message)


def load_strictly(
    model: nn.Module, tensors: Mapping[str, Tensor], *, classifiers: Collection[str], what: str
) -> None:
    """Load weights; every tensor must have its place, and every place its tensor.

    The model keeps its types: weights saved in half precision are brought to float32.

    Args:
        model: Without its classifier.
        tensors: Name → tensor.
        classifiers: Names of modules whose tensors are left out.
        what: Weights and encoder, for the message: ``weights a.pt for timm/resnet34``.

    Raises:
        WeightsError: Names or shapes differ; lists them.
    """
    given = {name: t for name, t in tensors.items() if not _belongs(name, classifiers)}
    expected = model.state_dict()
    # Batch counters play no part in the result, and older files do not have them.
    missing = [n for n in expected if n not in given and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in expected]
    mismatched = [
        f"{name} (expected {list(expected[name].shape)}, got {list(tensor.shape)})"
        for name, tensor in given.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "mismatched": mismatched}
    if any(found.values()):
        lists = "; ".join(f"{kind}: {name_keys(names)}" for kind, names in found.items() if names)
        message = f"{what} do not fit: {lists}; name the encoder they were made for"
        raise WeightsError(message)
    model.load_state_dict(given, strict=False)


def are_tensors(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether these are tensors by name."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def check_extents(tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Refuse tensors that would be larger, copied, than what their file holds of them.

    Args:
        tensors: By name, as they were read.
        what: Names the file, for the message.

    Raises:
        WeightsError: One would, or is not dense.
    """
    for name, tensor in tensors.items():
        try:
            check_extent(tensor, what=name)
        except ValueError as error:
            raise WeightsError(f"{what}: {error}") from error


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 over names, types, shapes and bytes of tensors, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _belongs(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        message = f"{path}: not a whole safetensors file: {error}; copy it again"
        raise WeightsError(message) from error
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error


def _read_torch(path: Path) -> object:
    try:
        content = load_tensors(path)
    except UnpicklingError as error:
        message = (
            f"{path}: refused, because it is damaged or holds more than tensors, which could run "
            "code; save its state dict as .safetensors where you trust it"
        )
        raise WeightsError(message) from error
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: not a whole file of torch: {error}; copy it again"
        raise WeightsError(message) from error
    return content


def _unreadable(path: Path, error: OSError) -> str:
    reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
    return f"weights {path}: {reason}; expected --weights FILE, timm or random:SEED"


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not are_tensors(content):
        message = f"{path}: expected tensors by name, plain or under {' or '.join(WRAPPERS)}"
        raise WeightsError(message)
    check_extents(content, what=str(path))
    if all(name.startswith(PARALLEL_PREFIX) for name in content):
        return {name.removeprefix(PARALLEL_PREFIX): t for name, t in content.items()}
    return content
