"""A fit that may start: its inputs checked against each other, its replicates and its config.json.

Shapes: n patients of a role.
"""

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from aml_mil.cohort.errors import FoldsError
from aml_mil.cohort.folds import (
    MIN_FOLDS,
    FoldRoles,
    check_folds,
    count_folds,
    make_folds,
    roles_of,
)
from aml_mil.evaluation.predictions import ROLES
from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import FeatureScaling, Replicate
from aml_mil.mil.errors import BagsError
from aml_mil.mil.head import HeadShape
from aml_mil.mil.inputs import FitInputs, FoldStore, load_inputs, read_labels, store_paths
from aml_mil.mil.leakage import Leakage, check_leakage
from aml_mil.mil.results import training_features
from aml_mil.mil.run_dir import RUN_VERSION
from aml_mil.mil.sampling import IntArray
from aml_mil.mil.splits import check_splits

Folds = Mapping[str, int] | Sequence[FoldRoles]
LIBRARIES = ("torch", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitPlan:
    """Everything a run needs.

    Attributes:
        inputs: Stores and patients.
        roles: Patients by role, per fold.
        has_splits: Whether the roles were given, rather than made from folds.
        config: Settings, with the number of folds there are.
        leakage: Whether an encoder has seen test patients.
    """

    inputs: FitInputs
    roles: tuple[FoldRoles, ...]
    has_splits: bool
    config: FitConfig
    leakage: Leakage

    @property
    def shape(self) -> HeadShape:
        """What the heads are made of."""
        return HeadShape.of(
            self.config,
            feature_shape=self.inputs.stores[0].manifest.feature_shape,
            num_classes=len(self.inputs.classes),
        )

    @property
    def folds(self) -> dict[str, int]:
        """Fold in which each patient is tested, for those that are."""
        return tested_folds(self.roles)

    def replicates(self, *, run: int = 0, first_store: int = 0) -> tuple[Replicate, ...]:
        """Return the heads to train, by fold and seed.

        Args:
            run: Place of the run among those that train together.
            first_store: Place of its first store among theirs.
        """
        scalings: list[FeatureScaling | None] = [None] * len(self.roles)
        if self.config.standardize:
            features = training_features(self.inputs, self.roles)
            scalings = [
                FeatureScaling.of(mean, sd)
                for mean, sd in zip(features["mean"], features["sd"], strict=True)
            ]
        return tuple(
            Replicate(
                fold=fold,
                seed=seed,
                store=first_store + self.inputs.store_index(fold),
                train=self._places(roles.train),
                validation=self._places(roles.validation),
                scaling=scalings[fold],
                run=run,
            )
            for fold, roles in enumerate(self.roles)
            for seed in range(self.config.seeds)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the run's config.json."""
        per_fold = len(self.inputs.stores) > 1
        return {
            "version": RUN_VERSION,
            "fit": self.config.to_json(),
            "classes": list(self.inputs.classes),
            "feature_shape": list(self.shape.feature_shape),
            "num_patients": len(self.inputs.labels),
            "num_cells": int(self.inputs.offsets[-1]),
            "leakage": self.leakage,
            "folds_sha256": self._folds_sha256(),
            "labels_sha256": _sha256(f"{p}\0{c}\0" for p, c in self.inputs.labels.items()),
            "stores": [
                _store_document(s, fold if per_fold else None)
                for fold, s in enumerate(self.inputs.stores)
            ],
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in LIBRARIES},
            },
        }

    def _folds_sha256(self) -> str:
        if self.has_splits:
            return _sha256(
                f"{p}\0{fold}\0{role}\0"
                for fold, roles in enumerate(self.roles)
                for role in ROLES
                for p in getattr(roles, role)
            )
        return _sha256(f"{p}\0{fold}\0" for p, fold in sorted(self.folds.items()))

    def _places(self, ids: Sequence[str]) -> IntArray:
        place = {p: i for i, p in enumerate(self.inputs.patient_ids)}
        return np.array([place[p] for p in ids], dtype=np.int64)


def make_plans(
    stores: Sequence[str | Path],
    *,
    config: FitConfig,
    folds: Folds | None,
    allow_transductive: bool,
) -> tuple[FitPlan, ...]:
    """Load the stores of runs that train together and check all that can be refused before.

    Args:
        stores: Path of each run's store; ``{fold}`` in it stands for the fold, one store per fold.
        config: Settings.
        folds: Fold of every patient, or the patients' roles per fold; made from the config if not
            given.
        allow_transductive: Whether an encoder may have seen test patients.

    Raises:
        FitError: The stores or their encoders do not allow it.
        StoreError: A store cannot be read.
        FoldsError: The folds are not of these patients, or a label is too rare for them.
    """
    if folds is None:
        if config.num_folds < MIN_FOLDS:
            raise FoldsError(
                f"num_folds: expected {MIN_FOLDS} or more (training, validation and test), "
                f"got {config.num_folds}; with fewer, name every patient's role in splits (--folds)"
            )
        labels = read_labels(store_paths(stores[0], num_folds=config.num_folds)[0])
        folds = make_folds(labels, num_folds=config.num_folds, seed=config.fold_seed)
    has_splits = not isinstance(folds, Mapping)
    num_folds = count_folds(folds) if isinstance(folds, Mapping) else len(folds)
    config = replace(config, num_folds=num_folds)
    runs = load_inputs([store_paths(store, num_folds=num_folds) for store in stores])
    roles = _roles(folds, runs[0].patient_ids)
    _check_training_classes(runs[0], roles)
    plans = tuple(
        FitPlan(
            inputs=inputs,
            roles=roles,
            has_splits=has_splits,
            config=config,
            leakage=check_leakage(
                [s.manifest for s in inputs.stores],
                tested_folds(roles),
                allow_transductive=allow_transductive,
            ),
        )
        for inputs in runs
    )
    for plan in plans:
        _check_shape(plan)
        if config.precision == "fp16":
            _check_range(plan.inputs)
    return plans


def tested_folds(roles: Sequence[FoldRoles]) -> dict[str, int]:
    """Return the fold in which each patient is tested."""
    return {p: fold for fold, of_fold in enumerate(roles) for p in of_fold.test}


def _roles(folds: Folds, patient_ids: Sequence[str]) -> tuple[FoldRoles, ...]:
    if isinstance(folds, Mapping):
        check_folds(folds, patient_ids)
        return tuple(roles_of(folds, k) for k in range(count_folds(folds)))
    check_splits(folds, patient_ids)
    return tuple(folds)


def _check_shape(plan: FitPlan) -> None:
    try:
        _ = plan.shape
    except ValueError as error:
        raise BagsError(f"{plan.inputs.stores[0].path}: {error}") from error


def _check_range(inputs: FitInputs) -> None:
    """Check that fp16 holds the features."""
    limit = float(np.finfo(np.float16).max)
    for store in inputs.stores:
        for i, patient_id in enumerate(inputs.patient_ids):
            features = store.bags.features[:, store.bags.bag(i)]
            if (largest := max(float(features.max()), -float(features.min()))) > limit:
                raise BagsError(
                    f"precision fp16 holds numbers up to {limit:,.0f}, got {largest:,.0f} in "
                    f"{patient_id} of {store.path}; use --precision bf16 or fp32"
                )


def _check_training_classes(inputs: FitInputs, roles: Sequence[FoldRoles]) -> None:
    for fold, fold_roles in enumerate(roles):
        missing = set(inputs.classes) - {inputs.labels[p] for p in fold_roles.train}
        if missing:
            raise BagsError(
                f"expected patients of every class to train fold {fold} on, got none of "
                f"{', '.join(sorted(missing))}; make folds that spread every class"
            )


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _store_document(store: FoldStore, fold: int | None) -> dict[str, Any]:
    manifest = store.manifest
    return {
        "fold": fold,
        "path": str(store.path.absolute()),
        "encoder": manifest.encoder,
        "architecture": manifest.architecture,
        "weights": manifest.weights,
        "weights_sha256": manifest.weights_sha256,
        "preprocessing": dict(manifest.preprocessing),
        "views": list(manifest.views),
        "dtype": manifest.dtype,
        "identity_sha256": manifest.identity_sha256,
        "bags_sha256": store.bags_sha256,
    }
