"""The saved state of a run: tensors as safetensors, the rest as JSON inside the same file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from aml_mil.files import write_file
from aml_mil.ssl.errors import ResumeError
from stores import JSON

METADATA_KEY = "aml_mil_pretrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaths:
    """Files of a run, side by side.

    Attributes:
        encoder: What `embed` takes.
    """

    encoder: Path

    @property
    def state(self) -> Path:
        """All that is needed to continue."""
        return self.encoder.with_suffix(".state.safetensors")

    @property
    def history(self) -> Path:
        """A row for each epoch."""
        return self.encoder.with_suffix(".history.csv")

    @property
    def plot(self) -> Path:
        """The same as a picture."""
        return self.encoder.with_suffix(".history.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run at a step.

    Attributes:
        document: Settings, progress and history.
        method: State of the method.
        optimiser: State of the optimiser.
        tally: Sums over the epoch in progress.
    """

    document: Mapping[str, JSON]
    method: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    tally: Mapping[str, Tensor]


def write_state(path: Path, state: RunState) -> None:
    """Replace the saved state; the old one stays if this fails.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
        for part, named in (
            ("method", state.method),
            ("optimiser", state.optimiser),
            ("tally", state.tally),
        )
        for name, tensor in named.items()
    }
    write_file(path, safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(state.document)}))


def read_state(path: Path) -> RunState:
    """Read a saved state.

    Raises:
        ResumeError: There is none, or it is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except FileNotFoundError as error:
        message = f"nothing to resume: no {path}; leave out --resume to begin"
        raise ResumeError(message) from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        message = f"{path}: not a whole saved state: {error}; remove it to begin again"
        raise ResumeError(message) from error
    return RunState(
        document=document,
        method=_part(tensors, "method/"),
        optimiser=_part(tensors, "optimiser/"),
        tally=_part(tensors, "tally/"),
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
