"""The folder of a run: what is written, whole files only, and when it counts as finished.

A run is finished when ``metrics.json`` is there, which is written last.
"""

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
from torch import Tensor

from aml_mil.evaluation import Predictions, read_predictions
from aml_mil.files import write_file
from aml_mil.mil.config import FitConfig
from aml_mil.mil.errors import RunError, RunExistsError
from aml_mil.mil.head import Head, HeadShape
from stores.files import PARTIAL_SUFFIX

CONFIG_FILE = "config.json"
FOLDS_FILE = "folds.csv"
HEADS_FILE = "heads.safetensors"
HISTORY_FILE = "history.csv"
PREDICTIONS_FILE = "predictions.csv"
ATTENTION_FILE = "attention.npz"
FEATURES_FILE = "training_features.npz"
METRICS_FILE = "metrics.json"
RUN_VERSION = 1

_IDENTITY = ("version", "fit", "classes", "folds_sha256", "labels_sha256", "stores")
_STORE_IDENTITY = ("fold", "identity_sha256", "bags_sha256")
_OF_OTHER_BYTES = {
    "folds_sha256": "its folds are others",
    "labels_sha256": "the labels of its patients are others",
    "stores": "its store is another, or has changed since",
}


def is_finished(path: Path, document: Mapping[str, Any], *, kept: Collection[str] = ()) -> bool:
    """Check that a run may be written to a folder, and whether it is there already.

    Args:
        path: The folder.
        document: The run's config.json.
        kept: Runs of which a checkpoint is kept, see ``run_key``.

    Returns:
        Whether the folder holds this very run, finished.

    Raises:
        RunExistsError: The folder holds another run, or other files.
    """
    if (path / CONFIG_FILE).exists():
        existing = _read_json(path / CONFIG_FILE)
        differing = _differences(existing, document)
        if differing and _has_only_config(path) and run_key(path, existing) not in kept:
            return False
        if differing:
            raise RunExistsError(
                f"{path} holds another run: {'; '.join(differing)}; name another folder"
            )
        if (path / METRICS_FILE).exists():
            return True
    elif path.exists() and not (path.is_dir() and _is_empty(path)):
        found = "other files" if path.is_dir() else "a file"
        raise RunExistsError(f"expected an empty folder or a run at {path}, got {found}")
    return False


def run_key(path: Path, document: Mapping[str, Any]) -> str:
    """Name a run by its folder's name and what makes it this run in its config.json."""
    told = json.dumps([path.name, _identity(document)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _has_only_config(path: Path) -> bool:
    """Whether a run was begun there and nothing has come of it."""
    return {p.name for p in path.iterdir() if not _is_part(p)} == {CONFIG_FILE}


def _is_empty(path: Path) -> bool:
    return all(_is_part(p) for p in path.iterdir())


def _is_part(path: Path) -> bool:
    """Whether it is what a killed process left of a file."""
    return path.name.endswith(PARTIAL_SUFFIX)


def start_run(path: Path, document: Mapping[str, Any]) -> None:
    """Make the folder of a run that may be written there."""
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / CONFIG_FILE, document)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document, NaN refused."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, f"{text}\n".encode())


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name, without pickles."""
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    write_file(path, data.getvalue())


def write_heads(path: Path, heads: Mapping[tuple[int, int], Mapping[str, Tensor]]) -> None:
    """Write the heads by (fold, seed); tensors are named ``fold0.seed0.<parameter>``."""
    tensors = {
        f"{_prefix(fold, seed)}{name}": tensor.contiguous()
        for (fold, seed), parameters in heads.items()
        for name, tensor in parameters.items()
    }
    write_file(path, safetensors.torch.save(tensors))


class Run:
    """A finished run.

    Args:
        path: Its folder.

    Raises:
        RunError: The folder holds no finished run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / CONFIG_FILE).exists():
            raise RunError(f"expected the folder of a run at {path}, found no {CONFIG_FILE}")
        if not (self.path / METRICS_FILE).exists():
            raise RunError(f"the run at {path} was interrupted; fit it again")
        self.document: dict[str, Any] = _read_json(self.path / CONFIG_FILE)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.document["classes"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json says."""
        return _read_json(self.path / METRICS_FILE)

    def predictions(self) -> Predictions:
        """Return the predictions of every replicate."""
        return read_predictions(self.path / PREDICTIONS_FILE)

    def head(self, fold: int, seed: int) -> Head:
        """Return one replicate's head, ready to be applied.

        Raises:
            RunError: The run has no such replicate.
        """
        shape = HeadShape.of(
            FitConfig(**self.document["fit"]),
            feature_shape=tuple(self.document["feature_shape"]),
            num_classes=len(self.classes),
        )
        head = Head(shape)
        prefix = _prefix(fold, seed)
        path = self.path / HEADS_FILE
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                if not names:
                    raise RunError(f"expected a head of fold {fold}, seed {seed} in {self.path}")
                state = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
            head.to(next(iter(state.values())).dtype).load_state_dict(state)
        except (safetensors.SafetensorError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{path} is damaged ({reason}); fit again into another folder"
            ) from error
        return head.eval()


def open_run(path: str | Path) -> Run:
    """Open the folder of a finished run.

    Raises:
        RunError: There is none.
    """
    return Run(path)


def _prefix(fold: int, seed: int) -> str:
    return f"fold{fold}.seed{seed}."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); fit again into another folder") from error
    return document


def _differences(existing: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Name what makes two runs different, settings with both values."""
    unnamed = {"labels_sha256": document.get("labels_sha256")}  # by older runs
    ours, theirs = _identity(document), _identity(unnamed | dict(existing))
    return [
        _OF_OTHER_BYTES.get(name, f"{name} is {theirs.get(name)}, not {value}")
        for name, value in ours.items()
        if theirs.get(name) != value
    ]


def _identity(document: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: document.get(name) for name in _IDENTITY}
    settings = FitConfig().to_json() | (values.pop("fit") or {})  # older runs name fewer settings
    del settings["device"]
    stores = values.pop("stores") or []
    values["stores"] = [{name: store.get(name) for name in _STORE_IDENTITY} for store in stores]
    return {**settings, **values}
