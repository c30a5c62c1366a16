"""What an interrupted fit goes on from: one file, whole or not there, replaced every so often.

Tensors are named ``<run>.fold0.seed0.<part>.<parameter>``; a run is named by what makes it this
run, see ``run_key``, so that states of another run are never taken.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from aml_mil.files import write_file
from aml_mil.mil.engine import EpochRecord, Replicate, ReplicateState

CHECKPOINT_FILE = ".fit-mil-checkpoint.safetensors"
_PARTS = ("parameters", "velocities", "best_parameters")
_NUMBERS = ("best_loss", "best_epoch", "last_epoch", "has_diverged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a fit had come.

    Attributes:
        states: Of every replicate, in the order of the replicates.
        history: The records of its epochs so far.
    """

    states: list[ReplicateState]
    history: list[EpochRecord]


def write_checkpoint(
    path: Path,
    *,
    keys: Sequence[str],
    replicates: Sequence[Replicate],
    states: Sequence[ReplicateState],
    history: Sequence[EpochRecord],
) -> None:
    """Write how far a fit has come.

    Args:
        path: The file.
        keys: Of the runs that train together, see ``run_key``.
        replicates: Theirs.
        states: Of the replicates.
        history: Records so far.
    """
    tensors: dict[str, Tensor] = {}
    numbers = {}
    for replicate, state in zip(replicates, states, strict=True):
        name = _name(keys, replicate)
        numbers[name] = {n: getattr(state, n) for n in _NUMBERS}
        for part in _PARTS:
            for parameter, value in getattr(state, part).items():
                tensors[f"{name}.{part}.{parameter}"] = value
    records = [asdict(r) | {"run": keys[r.run]} for r in history]
    metadata = {"numbers": json.dumps(numbers), "history": json.dumps(records)}
    write_file(path, safetensors.torch.save(tensors, metadata=metadata))


def read_checkpoint(
    path: Path, *, keys: Sequence[str], replicates: Sequence[Replicate]
) -> Checkpoint | None:
    """Read how far a fit had come; None where there is nothing of it, or not of all replicates."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            numbers, records = json.loads(metadata["numbers"]), json.loads(metadata["history"])
            names = [_name(keys, r) for r in replicates]
            if not set(names) <= set(numbers):
                return None
            tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None
    states = [
        ReplicateState(
            parameters=_of(tensors, f"{n}.parameters."),
            velocities=_of(tensors, f"{n}.velocities."),
            best_parameters=_of(tensors, f"{n}.best_parameters."),
            **numbers[n],
        )
        for n in names
    ]
    history = [
        EpochRecord(**r | {"run": keys.index(r["run"])}) for r in records if r["run"] in keys
    ]
    return Checkpoint(states=states, history=history)


def kept_runs(path: Path) -> set[str]:
    """Return the keys of the runs in a checkpoint; none where there is no checkpoint."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name.partition(".")[0] for name in json.loads(file.metadata()["numbers"])}
    except (FileNotFoundError, SafetensorError):
        return set()


def _name(keys: Sequence[str], replicate: Replicate) -> str:
    return f"{keys[replicate.run]}.fold{replicate.fold}.seed{replicate.seed}"


def _of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
