"""What must hold before patients can be contrasted, and who may be looked at."""

from collections.abc import Collection, Mapping

import numpy as np

from aml_mil.cohort.errors import name_some
from aml_mil.cohort.folds import roles_of
from aml_mil.giga.bags import PatientBags
from aml_mil.giga.checkpoint import GigaInfo
from aml_mil.giga.errors import GigaError, TooFewPatientsError
from aml_mil.mil.errors import LeakageError
from aml_mil.ranks import num_ranks
from stores import Manifest

MIN_PATIENTS = 8
MIN_CELLS = 2
FLIPS = frozenset({"identity", "hflip", "vflip", "both"})


def check_patients(bags: PatientBags, *, batch_size: int) -> None:
    """Check that there is something to contrast.

    Args:
        bags: Training patients.
        batch_size: Patients of a step over all processes.

    Raises:
        TooFewPatientsError: There are fewer than 8 patients, or patients of a single cell.
        GigaError: The processes cannot share a step evenly.
    """
    num = len(bags.patient_ids)
    if num < MIN_PATIENTS:
        raise TooFewPatientsError(
            f"expected {MIN_PATIENTS} training patients or more to contrast with each other, got "
            f"{num} in {bags.path}; embed more patients, or leave out --fold"
        )
    single = [bags.patient_ids[i] for i in np.flatnonzero(bags.sizes < MIN_CELLS)]
    if single:
        raise TooFewPatientsError(
            f"patients with a single cell, of which every draw is the same: "
            f"{name_some(single, total=num)} in {bags.path}; leave them out of the store"
        )
    if batch_size % num_ranks():
        raise GigaError(
            f"expected a number of patients that {num_ranks()} processes can share evenly, got "
            f"{batch_size}; set --batch-size to {batch_size - batch_size % num_ranks()}"
        )


def describe_views(views: tuple[str, ...]) -> str | None:
    """Say what is missing where a store's views are not augmentations; None where they are."""
    if not set(views) <= FLIPS:
        return None
    what = "no augmented views" if len(views) == 1 else "flips as its only augmented views"
    return (
        f"the store holds {what}: two views of a patient differ by the draw of cells and little "
        "else, which teaches less; embed with --views shared:5 for more"
    )


def check_cells_encoder(
    manifest: Manifest, test: Collection[str], *, fold: int, allow_transductive: bool
) -> None:
    """Refuse features of an encoder that has seen a fold's test patients.

    Args:
        manifest: Of the features.
        test: Test patients of the fold.
        fold: For the message.
        allow_transductive: Whether it may have seen them (without labels).

    Raises:
        LeakageError: It has, and that was not allowed.
    """
    seen = sorted(set(manifest.trained_on or ()) & set(test))
    if seen and not allow_transductive:
        raise LeakageError(
            f"encoder {manifest.encoder} has seen test patients of fold {fold}: {name_some(seen)}; "
            "pre-train per fold and name the stores with {fold}, or pass --allow-transductive"
        )


def check_unseen(
    infos: Mapping[int, GigaInfo], folds: Mapping[str, int], *, allow_transductive: bool
) -> tuple[int, ...]:
    """Compare what each fold's encoder of patients has seen with the fold's test patients.

    Args:
        infos: Of the encoder that a fold uses, by fold.
        folds: Fold of every patient.
        allow_transductive: Whether it may have seen test patients (without labels).

    Returns:
        The folds of which test patients were seen.

    Raises:
        LeakageError: Test patients were seen, and that was not allowed.
    """
    seen = {}
    for fold, info in infos.items():
        known = set(info.trained_on) | set(info.features_trained_on or ())
        if test := sorted(known & set(roles_of(folds, fold).test)):
            seen[fold] = test
    if seen and not allow_transductive:
        fold, test = next(iter(seen.items()))
        raise LeakageError(
            f"the encoder of patients has seen test patients of fold {fold}: {name_some(test)}; "
            "train one per fold (giga-ssl --folds --fold) and name the files with {fold}, "
            "or pass --allow-transductive"
        )
    return tuple(seen)
