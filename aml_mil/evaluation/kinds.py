"""Which cell types are malignant and which healthy: shipped tables, or a user's."""

import csv
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from aml_mil.evaluation.errors import EvaluationError

Kind = Literal["malignant", "healthy", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS = ("cell_type", "kind")
# The public AML-Cytomorphology_MLL_Helmholtz annotation, and CellaVision's names.
SHIPPED = ("mll.csv", "cellavision.csv")


def shipped_kinds() -> dict[str, Kind]:
    """Return the kind of every cell type of the shipped tables, types in lower case."""
    folder = resources.files("aml_mil.evaluation") / "cell_types"
    kinds: dict[str, Kind] = {}
    for name in SHIPPED:
        kinds |= _parse((folder / name).read_text(encoding="utf-8"), name)
    return kinds


def read_kinds(path: str | Path) -> dict[str, Kind]:
    """Read a table of cell types, ``cell_type,kind`` with kind malignant, healthy or other.

    Raises:
        EvaluationError: A column is missing, a kind is unknown, or a type stands twice with
            different kinds.
    """
    return _parse(Path(path).read_text(encoding="utf-8-sig"), str(path))


def kind_of(cell_type: str, kinds: Mapping[str, Kind]) -> Kind | None:
    """Look a cell type up, whatever its case; None where the table does not know it."""
    return kinds.get(cell_type.strip().lower())


def _parse(text: str, where: str) -> dict[str, Kind]:
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise EvaluationError(
            f"expected the columns {', '.join(COLUMNS)} in {where}, "
            f"got {', '.join(reader.fieldnames or ()) or 'an empty file'}"
        )
    kinds: dict[str, Kind] = {}
    for row in reader:
        kind: Kind | None = next((k for k in KINDS if k == row["kind"]), None)
        if kind is None:
            raise EvaluationError(
                f"expected {', '.join(KINDS)} as the kind of {row['cell_type']!r} in {where}, "
                f"got {row['kind']!r}"
            )
        cell_type = row["cell_type"].strip().lower()
        if kinds.setdefault(cell_type, kind) != kind:
            raise EvaluationError(f"{cell_type!r} stands twice in {where} with different kinds")
    return kinds
