"""The guard that keeps an encoder from being tested on patients it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Literal

from aml_mil.cohort.errors import name_some
from aml_mil.mil.errors import LeakageError
from stores import Manifest

Leakage = Literal["none", "unknown", "transductive"]


def check_leakage(
    manifests: Sequence[Manifest], folds: Mapping[str, int], *, allow_transductive: bool
) -> Leakage:
    """Compare what each fold's encoder has seen with the fold's test patients.

    Args:
        manifests: One for all folds, or one per fold.
        folds: Fold of every patient.
        allow_transductive: Whether an encoder may have seen test patients (without labels).

    Returns:
        ``none``: no encoder has seen a test patient. ``unknown``: some weights carry no record.
        ``transductive``: test patients were seen, and that was allowed.

    Raises:
        LeakageError: Test patients were seen, and that was not allowed.
    """
    seen = []
    for fold in sorted(set(folds.values())):
        manifest = manifests[fold] if len(manifests) > 1 else manifests[0]
        trained_on = set(manifest.trained_on or ())
        test = [p for p in sorted(folds) if folds[p] == fold and p in trained_on]
        if test:
            seen.append((fold, f"{manifest.encoder} ({manifest.weights})", test))
    if seen and not allow_transductive:
        fold, encoder, test = seen[0]
        raise LeakageError(
            f"encoder {encoder} has seen test patients of fold {fold}: {name_some(test)}; "
            f"pre-train per fold and name the stores with {{fold}}, or say --allow-transductive"
        )
    if seen:
        return "transductive"
    return "unknown" if any(m.trained_on is None for m in manifests) else "none"
