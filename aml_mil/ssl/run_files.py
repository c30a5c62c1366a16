"""What a run writes: state, encoder, history, picture; and how it finds its way back.

The document inside the state is the run's identity and its course.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from aml_mil.encoders import CheckpointInfo, save_checkpoint
from aml_mil.runtime import library_versions
from aml_mil.ssl.collapse import Alarm
from aml_mil.ssl.config import FREE_TO_CHANGE, PretrainConfig
from aml_mil.ssl.errors import ResumeError
from aml_mil.ssl.methods import method_name
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.state import RunPaths, RunState, read_state
from stores import JSON

LIBRARIES = ("aml-mil", "torch", "timm", "albumentations", "opencv-python-headless", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What makes a run this run and no other.

    Attributes:
        method: ``simclr``, …
        config: Its settings.
        images_sha256: Over the ids of the images, in order.
        cohort: What the user named, and the fold; information only.
    """

    method: str
    config: Mapping[str, JSON]
    images_sha256: str
    cohort: Mapping[str, JSON]


def identify(config: PretrainConfig, pool: ImagePool, *, cohort: Mapping[str, JSON]) -> RunIdentity:
    """Say which run this is."""
    digest = hashlib.sha256()
    for source in pool.sources:
        digest.update(f"{source.image_id}\0{source.cell_type}\0".encode())
    return RunIdentity(
        method=method_name(config),
        config=config.to_json(),
        images_sha256=digest.hexdigest(),
        cohort=cohort,
    )


def load_run(paths: RunPaths, identity: RunIdentity) -> RunState:
    """Read the state of this very run.

    Raises:
        ResumeError: There is none, it is damaged, or it is another run's; shows both values.
    """
    state = read_state(paths.state)
    saved: dict[str, Any] = dict(state.document["identity"])  # type: ignore[arg-type]
    if saved["method"] != identity.method:
        message = (
            f"{paths.state} holds a run of {saved['method']}, not of {identity.method}; "
            "choose another --out, or the method it was begun with"
        )
        raise ResumeError(message)
    differing = [
        f"{name}: {saved['config'].get(name)!r} there, {value!r} asked for"
        for name, value in identity.config.items()
        if name not in FREE_TO_CHANGE and saved["config"].get(name) != value
    ]
    if saved["images_sha256"] != identity.images_sha256:
        differing.append("other images: another cohort, other folds, or changed files")
    if differing:
        message = f"{paths.state} holds another run; {'; '.join(differing)}; choose another --out"
        raise ResumeError(message)
    return state


def refuse_existing(paths: RunPaths) -> None:
    """Protect an earlier run.

    Raises:
        ResumeError: There is a state or an encoder already.
    """
    for path in (paths.state, paths.encoder):
        if path.exists():
            message = (
                f"{path} exists already; --resume continues an interrupted run, "
                "another --out begins a new one"
            )
            raise ResumeError(message)


def write_encoder(
    paths: RunPaths,
    encoder: nn.Module,
    *,
    config: PretrainConfig,
    pool: ImagePool,
    identity: RunIdentity,
    epochs_done: int,
    alarms: Sequence[Alarm],
) -> None:
    """Save what `embed` takes, with all that must be known about it."""
    recipe: dict[str, Any] = {
        "method": identity.method,
        "config": dict(identity.config),
        "cohort": dict(identity.cohort),
        "images": len(pool),
        "images_sha256": identity.images_sha256,
        "damaged_files": [list(entry) for entry in pool.damaged],
        "epochs_done": epochs_done,
        "alarms": [asdict(alarm) for alarm in alarms],
        "versions": _versions(),
    }
    save_checkpoint(
        paths.encoder,
        encoder.state_dict(),
        CheckpointInfo(
            architecture=f"timm/{config.architecture}",
            image_size_px=config.image_size_px,
            trained_on=pool.trained_on,
            recipe=recipe,
        ),
    )


def _versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions |= library_versions(name)
        except ModuleNotFoundError:
            versions[name] = "not installed"
    return versions
