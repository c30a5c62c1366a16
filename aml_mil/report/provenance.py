"""Where a run comes from: hashes, versions, and the commands that give it again."""

import shlex
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, NamedTuple

from aml_mil.embedding import EmbedConfig
from aml_mil.embedding.preprocessing import follow_preparation
from aml_mil.embedding.views import view_set
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.run import OpenRun
from aml_mil.mil.run_dir import CONFIG_FILE, FOLDS_FILE
from stores import StoreError

DISTRIBUTION = "aml-mil"
SIZE = "image_size_px"
# Flags of embed, and what a store's numerics call them.
NUMERICS_FLAGS = MappingProxyType(
    {
        "--engine": "engine",
        "--precision": "compute_dtype",
        "--device": "device_type",
        "--batch-size": "batch_size",
    }
)


class Provenance(NamedTuple):
    """What is said about the origin of a run."""

    facts: tuple[tuple[str, str], ...]
    """Names and values."""
    commands: tuple[str, ...]
    """In the order of the work."""


def provenance_of(run: OpenRun) -> Provenance:
    """Collect hashes, versions and commands from a run's config.json."""
    document = run.run.document
    facts = [("run folder", str(run.path)), ("folds, SHA-256", document["folds_sha256"])]
    for store in document["stores"]:
        of = "" if store["fold"] is None else f" of fold {store['fold']}"
        facts += [
            (f"encoder{of}", f"{store['encoder']} ({store['architecture']})"),
            (f"weights{of}", store["weights"]),
            (f"weights{of}, SHA-256", store["weights_sha256"]),
            (f"store{of}", store["path"]),
            (f"store{of}, identity SHA-256", store["identity_sha256"]),
            (f"bags{of}, SHA-256", store["bags_sha256"]),
        ]
    settings = ", ".join(f"{name} {value}" for name, value in document["fit"].items())
    facts.append(("settings of fit-mil", settings))
    versions = {DISTRIBUTION: _own_version(), **document["versions"]}
    facts.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    facts.append(("had the encoder seen test patients", document["leakage"]))
    return Provenance(facts=tuple(facts), commands=_commands(run, document))


def _commands(run: OpenRun, document: Mapping[str, Any]) -> tuple[str, ...]:
    stores = document["stores"]
    # Imported features have no size: no encoder of ours made them.
    commands = [
        _embed_command(run, place)
        for place, store in enumerate(stores)
        if SIZE in store["preprocessing"]
    ]
    names = [store["path"] for store in stores]
    words: list[object] = ["fit-mil", names[0] if len(names) == 1 else _common_name(names)]
    words += ["--config", run.path / CONFIG_FILE, "--folds", run.path / FOLDS_FILE]
    words += ["--allow-transductive"] if document["leakage"] == "transductive" else []
    commands.append(_line(*words, "--out", run.path))
    commands.append(_line("report", run.path, "--cohort", "COHORT", "--out", "report.html"))
    return tuple(commands)


def _embed_command(run: OpenRun, place: int) -> str:
    store = run.store_document(place)
    preprocessing = store["preprocessing"]
    layer = preprocessing.get("layer")
    return _line(
        *("embed", "COHORT", "--encoder", store["encoder"], "--weights", store["weights"]),
        *("--image-size", preprocessing[SIZE]),
        *(("--features", "map") if len(run.run.document["feature_shape"]) > 1 else ()),
        *(("--layer", layer) if layer else ()),
        *("--views", view_set(tuple(store["views"]))),
        *_preparation(preprocessing),
        *_arithmetic(run, place),
        *("--dtype", store["dtype"], "--out", store["path"]),
    )


def _arithmetic(run: OpenRun, place: int) -> list[object]:
    """Say how a store was computed; nothing where it is gone, as the run does not know it."""
    try:
        with run.store(place) as store:
            numerics = store.manifest.numerics
    except (EvaluationError, StoreError):
        return []
    found = [(flag, numerics.get(name)) for flag, name in NUMERICS_FLAGS.items()]
    words: list[object] = [
        word for flag, value in found if value is not None for word in (flag, value)
    ]
    return [*words, "--compile"] if numerics.get("compiled") else words


def _preparation(preprocessing: Mapping[str, Any]) -> list[str]:
    config = follow_preparation(EmbedConfig(), preprocessing)
    words = [word for name in config.cell_types for word in ("--cell-types", name)]
    if config.stain_reference is not None:
        reference = ",".join(map(str, config.stain_reference))
        words += ["--stain", config.stain, "--stain-reference", reference]
    return words


def _common_name(paths: list[str]) -> str:
    """Return the name with ``{fold}`` that gives the store of each fold, else the first store's."""
    for place in range(len(paths[0])):
        if paths[0][place] == "0":
            name = f"{paths[0][:place]}{{fold}}{paths[0][place + 1 :]}"
            if all(name.replace("{fold}", str(fold)) == p for fold, p in enumerate(paths)):
                return name
    return paths[0]


def _line(*words: object) -> str:
    return shlex.join(["aml-mil", *map(str, words)])


def _own_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"
