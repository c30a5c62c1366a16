"""Bags of two kinds of cells on a lattice, labelled by their arrangement or by their shares."""

from pathlib import Path
from typing import Literal

import numpy as np

from aml_mil.cohort.folds import make_folds, roles_of
from aml_mil.giga.probe import Probe
from aml_mil.giga.probe_config import ProbeConfig
from tests.giga.cases import bags_of, finish, small_run, write_patients

SIDE = 8
STEP = 10.0  # Between neighbours of the lattice, in µm.
NUM_FOLDS = 3
LabelIs = Literal["arrangement", "composition"]


def synthetic_kinds(num: int = 400, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds of cells, a s.d. and a half apart in every feature."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(num, width)), rng.normal(size=(num, width)) + 1.5


def write_located(
    path: Path,
    kinds: tuple[np.ndarray, np.ndarray],
    *,
    label_is: LabelIs,
    num: int = 60,
    seed: int = 0,
) -> Path:
    """Write bags of 64 cells.

    Where the label is the arrangement, half the cells of every bag are of each kind; kinds lie
    apart, or are mixed. Where it is the composition, 40 or 24 cells are of the first kind, mixed.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    features, coords = [], []
    for i in range(num):
        count = SIDE**2 // 2 if label_is == "arrangement" else (24, 40)[i % 2]
        is_first = rng.permutation(np.arange(SIDE**2) < count)
        if label_is == "arrangement" and i % 2:
            is_first = columns < SIDE // 2
        cells = np.empty((SIDE**2, kinds[0].shape[1]))
        for kind, pool in ((is_first, kinds[0]), (~is_first, kinds[1])):
            cells[kind] = pool[rng.choice(len(pool), int(kind.sum()), replace=False)]
        order = rng.permutation(SIDE**2)
        features.append(cells[None, order])
        jitter = rng.uniform(-0.2, 0.2, (SIDE**2, 2))
        coords.append(STEP * (np.stack([rows, columns], axis=1) + jitter)[order])
    labels = [("mixed", "apart")[i % 2] for i in range(num)]
    return write_patients(
        path,
        features,
        labels=labels,
        coords=coords,
        views=("identity",),
        feature_shape=(kinds[0].shape[1],),
    )


def auc_of(store: Path, folder: Path, *, kind: str, **settings: object) -> dict[str, float]:
    """Train an encoder of patients per fold and probe it with all labels; ROC-AUC by method."""
    everybody = bags_of(store)
    labels = dict(zip(everybody.patient_ids, everybody.labels, strict=True))
    folds = make_folds(labels, num_folds=NUM_FOLDS, seed=0)
    for fold in range(NUM_FOLDS):
        bags = bags_of(store, roles_of(folds, fold).train)
        finish(small_run(bags, folder / f"{kind}{fold}.safetensors", encoder=kind, **settings))
    probe = Probe(
        store,
        giga=str(folder / (kind + "{fold}.safetensors")),
        config=ProbeConfig(
            num_folds=NUM_FOLDS, percents=(100,), giga_draws=1, mil=False, resamples=10
        ),
        folds=folds,
        allow_transductive=False,
    )
    for _ in probe:
        pass
    assert probe.result is not None
    return {row.method: row.roc_auc for row in probe.result.draws}
