"""Encoders of patients on disk: weights as safetensors, what must be known of them as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from aml_mil.embedding.shared_views import SHARED_VIEWS
from aml_mil.files import write_file
from aml_mil.giga.errors import GigaFileError
from aml_mil.giga.network import EncoderShape, PatientEncoder
from stores import JSON, Manifest

METADATA_KEY = "aml_mil_giga"
FORMAT_VERSION = 1
# What two stores must share for the same encoder of patients to apply; views and dtype are free.
FEATURE_FIELDS = ("architecture", "weights_sha256", "preprocessing", "feature_shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class GigaInfo:
    """What a file says about its encoder of patients.

    Attributes:
        shape: Of the network.
        features: What it takes: architecture, weights, preprocessing and shape of the features.
        trained_on: Ids of the patients it has seen, sorted.
        features_trained_on: Ids that the encoder of the cells has seen; None where nobody knows.
        recipe: Settings and course of the training.
        format_version: Of this record.
    """

    shape: EncoderShape
    features: Mapping[str, JSON]
    trained_on: tuple[str, ...]
    features_trained_on: tuple[str, ...] | None
    recipe: Mapping[str, JSON] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def describe_features(manifest: Manifest) -> dict[str, JSON]:
    """Say what an encoder of patients is given; stored augmentations are left out."""
    preprocessing = {k: v for k, v in manifest.preprocessing.items() if k != SHARED_VIEWS}
    return {
        "architecture": manifest.architecture,
        "weights_sha256": manifest.weights_sha256,
        "preprocessing": preprocessing,
        "feature_shape": list(manifest.feature_shape),
    }


def save_giga(path: Path, encoder: PatientEncoder, info: GigaInfo) -> None:
    """Write an encoder of patients; the file is there completely or not at all.

    Raises:
        OSError: It cannot be written.
    """
    tensors = {n: t.detach().cpu().contiguous() for n, t in encoder.state_dict().items()}
    document = json.dumps(asdict(info), sort_keys=True)
    write_file(path, safetensors.torch.save(tensors, {METADATA_KEY: document}))


def load_giga(path: str | Path) -> tuple[PatientEncoder, GigaInfo]:
    """Read an encoder of patients.

    Returns:
        The encoder, in evaluation mode on the CPU, and what is known about it.

    Raises:
        GigaFileError: There is none, it is damaged, or of a later format.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        info = _parse(metadata[METADATA_KEY], Path(path))
        encoder = PatientEncoder(info.shape)
        encoder.load_state_dict(tensors)
    except FileNotFoundError as error:
        message = (
            f"no encoder of patients at {path}; train one: aml-mil giga-ssl STORE --out {path}"
        )
        raise GigaFileError(message) from error
    except (safetensors.SafetensorError, OSError, RuntimeError, KeyError) as error:
        message = f"{path}: not a whole file of giga-ssl: {error}; train it again, or copy it again"
        raise GigaFileError(message) from error
    return encoder.eval(), info


def check_features(info: GigaInfo, manifest: Manifest, *, what: str) -> None:
    """Refuse features other than those an encoder of patients was trained on.

    Args:
        info: Of the encoder.
        manifest: Of the store.
        what: Names both, for the message: ``a.safetensors and b.zarr``.

    Raises:
        GigaFileError: They differ; shows both values.
    """
    found = describe_features(manifest)
    for name in FEATURE_FIELDS:
        if info.features.get(name) != found[name]:
            raise GigaFileError(
                f"{what} do not belong together: expected {name} {info.features.get(name)}, "
                f"got {found[name]}; an encoder of patients takes its own features only"
            )


def _parse(text: str, path: Path) -> GigaInfo:
    try:
        values: dict[str, Any] = json.loads(text)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise GigaFileError(
                f"{path}: expected format {FORMAT_VERSION}, got {version}; use a later release"
            )
        for name in ("trained_on", "features_trained_on"):
            values[name] = None if values[name] is None else tuple(values[name])
        return GigaInfo(**values | {"shape": EncoderShape(**values["shape"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise GigaFileError(f"{path}: its record is damaged: {error}; copy it again") from error
