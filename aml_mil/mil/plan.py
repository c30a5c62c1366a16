"""A fit that may start: its inputs checked against each other, its replicates and its config.json.

Shapes: n patients of a role.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from aml_mil.cohort.folds import FoldRoles, check_folds, count_folds, make_folds, roles_of
from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import FeatureScaling, Replicate
from aml_mil.mil.errors import BagsError
from aml_mil.mil.head import HeadShape
from aml_mil.mil.inputs import FitInputs, FoldStore, load_inputs, read_labels, store_paths
from aml_mil.mil.leakage import Leakage, check_leakage
from aml_mil.mil.results import training_features
from aml_mil.mil.run_dir import RUN_VERSION
from aml_mil.mil.sampling import IntArray

LIBRARIES = ("torch", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitPlan:
    """Everything a run needs.

    Attributes:
        inputs: Stores and patients.
        folds: Fold of every patient.
        roles: Patients by role, per fold.
        config: Settings, with the number of folds there are.
        leakage: Whether an encoder has seen test patients.
    """

    inputs: FitInputs
    folds: Mapping[str, int]
    roles: tuple[FoldRoles, ...]
    config: FitConfig
    leakage: Leakage

    @property
    def shape(self) -> HeadShape:
        """Size of the heads."""
        return HeadShape(
            feature_shape=self.inputs.stores[0].manifest.feature_shape,
            num_classes=len(self.inputs.classes),
            widths=self.config.widths,
            attention_hidden=self.config.attention_hidden,
            classifier_hidden=self.config.classifier_hidden,
        )

    @property
    def replicates(self) -> tuple[Replicate, ...]:
        """The heads to train, by fold and seed."""
        scalings: list[FeatureScaling | None] = [None] * len(self.roles)
        if self.config.standardize:
            features = training_features(self.inputs, self.roles)
            scalings = [
                FeatureScaling(*pair) for pair in zip(features["mean"], features["sd"], strict=True)
            ]
        return tuple(
            Replicate(
                fold=fold,
                seed=seed,
                store=self.inputs.store_index(fold),
                train=self._places(roles.train),
                validation=self._places(roles.validation),
                scaling=scalings[fold],
            )
            for fold, roles in enumerate(self.roles)
            for seed in range(self.config.seeds)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the run's config.json."""
        lines = "".join(f"{p}\0{fold}\0" for p, fold in sorted(self.folds.items()))
        per_fold = len(self.inputs.stores) > 1
        return {
            "version": RUN_VERSION,
            "fit": self.config.to_json(),
            "classes": list(self.inputs.classes),
            "feature_shape": list(self.shape.feature_shape),
            "num_patients": len(self.inputs.labels),
            "num_cells": int(self.inputs.offsets[-1]),
            "leakage": self.leakage,
            "folds_sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "stores": [
                _store_document(s, fold if per_fold else None)
                for fold, s in enumerate(self.inputs.stores)
            ],
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in LIBRARIES},
            },
        }

    def _places(self, ids: Sequence[str]) -> IntArray:
        place = {p: i for i, p in enumerate(self.inputs.patient_ids)}
        return np.array([place[p] for p in ids], dtype=np.int64)


def make_plan(
    store: str | Path,
    *,
    config: FitConfig,
    folds: Mapping[str, int] | None,
    allow_transductive: bool,
) -> FitPlan:
    """Load the stores and check everything that can be refused before training.

    Args:
        store: Path of the store; ``{fold}`` in it stands for the fold, one store per fold.
        config: Settings.
        folds: Fold of every patient; made from the config if not given.
        allow_transductive: Whether an encoder may have seen test patients.

    Raises:
        FitError: The stores or their encoders do not allow it.
        StoreError: A store cannot be read.
        FoldsError: The folds are not of these patients, or a label is too rare for them.
    """
    if folds is None:
        labels = read_labels(store_paths(store, num_folds=config.num_folds)[0])
        folds = make_folds(labels, num_folds=config.num_folds, seed=config.fold_seed)
    config = replace(config, num_folds=count_folds(folds))
    inputs = load_inputs(store_paths(store, num_folds=config.num_folds))
    check_folds(folds, inputs.patient_ids)
    roles = tuple(roles_of(folds, fold, config.num_folds) for fold in range(config.num_folds))
    _check_training_classes(inputs, roles)
    leakage = check_leakage(
        [s.manifest for s in inputs.stores], folds, allow_transductive=allow_transductive
    )
    plan = FitPlan(inputs=inputs, folds=dict(folds), roles=roles, config=config, leakage=leakage)
    _check_shape(plan)
    return plan


def _check_shape(plan: FitPlan) -> None:
    try:
        _ = plan.shape
    except ValueError as error:
        raise BagsError(f"{plan.inputs.stores[0].path}: {error}") from error


def _check_training_classes(inputs: FitInputs, roles: Sequence[FoldRoles]) -> None:
    for fold, fold_roles in enumerate(roles):
        missing = set(inputs.classes) - {inputs.labels[p] for p in fold_roles.train}
        if missing:
            raise BagsError(
                f"expected patients of every class to train fold {fold} on, got none of "
                f"{', '.join(sorted(missing))}; make folds that spread every class"
            )


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
