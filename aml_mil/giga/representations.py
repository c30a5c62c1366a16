"""Vectors of patients that a logistic regression is given.

Shapes: P patients, D figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aml_mil.evaluation.floors import mean_per_patient, patient_colours
from aml_mil.giga.bags import IntArray, PatientBags
from aml_mil.giga.checkpoint import GigaInfo, check_features, load_giga
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.embed import embed_patients
from aml_mil.giga.network import PatientEncoder, build_encoder
from aml_mil.giga.shape import choose_shape, measure_scale

FOLD_FIELD = "{fold}"
GIGA, GIGA_RANDOM, MEAN_POOLING, COLOUR = "giga", "giga_random", "mean_pooling", "colour"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GigaFiles:
    """Encoders of patients, one for all folds or one per fold.

    Attributes:
        paths: By fold.
        encoders: By fold.
        infos: By fold.
    """

    paths: Mapping[int, Path]
    encoders: Mapping[int, PatientEncoder]
    infos: Mapping[int, GigaInfo]


def load_files(pattern: str | None, bags: Sequence[PatientBags], *, num_folds: int) -> GigaFiles:
    """Read the encoders of patients that a probe compares.

    Args:
        pattern: Path; {fold} stands for the fold. None for none.
        bags: Of each fold.
        num_folds: Folds.

    Raises:
        GigaFileError: A file cannot be used with its fold's features.
    """
    if pattern is None:
        return GigaFiles(paths={}, encoders={}, infos={})
    paths = {k: Path(pattern.replace(FOLD_FIELD, str(k))) for k in range(num_folds)}
    loaded = {path: load_giga(path) for path in dict.fromkeys(paths.values())}
    for fold, path in paths.items():
        own = bags[fold]
        check_features(loaded[path][1], own.manifest, what=f"{path} and {own.path}")
    return GigaFiles(
        paths=paths,
        encoders={k: loaded[path][0].to(bags[k].table.device) for k, path in paths.items()},
        infos={k: loaded[path][1] for k, path in paths.items()},
    )


def represent(
    bags: Sequence[PatientBags],
    files: GigaFiles,
    *,
    training: Sequence[IntArray],
    num_draws: int,
    seed: int,
) -> Iterator[tuple[str, dict[int, FloatArray]]]:
    """Make every kind of vector.

    Args:
        bags: Of each fold; the same patients in each.
        files: Encoders of patients; without them an untrained one of the default settings only.
        training: Training patients of each fold, which an untrained encoder is scaled by.
        num_draws: Draws of cells for an embedding.
        seed: Of draws and of untrained weights.

    Yields:
        Name, and [P, D] by fold.
    """
    folds = range(len(bags))
    if files.encoders:
        yield GIGA, _embed(bags, files.encoders, num_draws=num_draws, seed=seed)
    untrained = {
        k: _untrained(bags[k], files.encoders.get(k), training[k], seed=seed) for k in folds
    }
    yield GIGA_RANDOM, _embed(bags, untrained, num_draws=num_draws, seed=seed)
    yield MEAN_POOLING, {k: _mean_features(bags[k]) for k in folds}
    if (colour := bags[0].colour) is not None:
        yield COLOUR, dict.fromkeys(folds, patient_colours(colour, bags[0].offsets))


def _untrained(
    bags: PatientBags, like: PatientEncoder | None, training: IntArray, *, seed: int
) -> PatientEncoder:
    """Build an encoder of the same form with random weights."""
    shape = choose_shape(bags, GigaConfig()) if like is None else like.shape
    encoder = build_encoder(shape, seed=seed).to(bags.table.device)
    encoder.set_scale(*measure_scale(bags, training))
    return encoder


def _embed(
    bags: Sequence[PatientBags],
    encoders: Mapping[int, PatientEncoder],
    *,
    num_draws: int,
    seed: int,
) -> dict[int, FloatArray]:
    made: dict[tuple[int, int], FloatArray] = {}
    for fold, encoder in encoders.items():
        key = id(encoder), id(bags[fold])
        if key not in made:
            rows = embed_patients(encoder, bags[fold], num_draws=num_draws, seed=seed)
            made[key] = np.stack(list(rows)).astype(np.float64)
    return {fold: made[id(encoder), id(bags[fold])] for fold, encoder in encoders.items()}


def _mean_features(bags: PatientBags) -> FloatArray:
    return mean_per_patient(bags.table[: bags.num_cells].cpu().numpy(), bags.offsets)
