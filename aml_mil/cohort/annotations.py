"""Join experts' cell types to the cells they name."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from aml_mil.cohort.errors import name_some
from aml_mil.cohort.listing import same_name
from aml_mil.cohort.patients import Cell, Cohort, Patient
from aml_mil.cohort.tables import read_table

_NUMBERED = re.compile(r"(?:image)?[_\- ]?(\d+)", re.IGNORECASE)


class _Form(NamedTuple):
    """File and columns of one published form of the table."""

    file: str
    patient: str
    image: str
    cell_type: str


FORMS = (
    _Form("cell_annotations.csv", "patient_id", "image", "cell_type"),
    _Form("image_annotation_master.csv", "ID", "im_tiffname", "mll_annotation"),
)


def join_annotations(cohort: Cohort) -> Cohort:
    """Give cells the types that a table in the cohort's folder says.

    Rows name an image by its path below the patient, its file name, or its number alone:
    ``103.TIF`` is ``image_103.tif``. Rows that fit no cell, or several, and cells with
    contradictory rows get no type; all are counted in the notes.

    Returns:
        The cohort itself where there is no table.

    Raises:
        TableError: The table cannot be read or lacks a column.
    """
    present = [form for form in FORMS if (cohort.root / form.file).is_file()]
    if not present:
        return cohort
    form, *ignored = present
    path = cohort.root / form.file
    types, unmatched, total = _match(cohort, path, form)
    contradictory = [key for key, found in types.items() if len(found) > 1]
    patients = tuple(_with_types(patient, types) for patient in cohort.patients)
    notes = [f"cell types: {total - len(unmatched)} of {total} rows of {form.file} join"]
    if unmatched:
        notes.append(f"rows of {form.file} that fit no cell, or several: {name_some(unmatched)}")
    if contradictory:
        named = name_some("/".join(key) for key in contradictory)
        notes.append(f"cells with contradictory types in {form.file} keep none: {named}")
    notes.extend(f"{other.file} is not read beside {form.file}" for other in ignored)
    return replace(cohort, patients=patients, notes=(*cohort.notes, *notes))


def _match(
    cohort: Cohort, path: Path, form: _Form
) -> tuple[dict[tuple[str, str], set[str]], list[str], int]:
    """Look every row up: types by (patient, instance), names of rows without a cell, row count."""
    rows = read_table(path, required=(form.patient, form.image, form.cell_type)).rows
    indices = {same_name(p.patient_id): _index(p.cells) for p in cohort.patients}
    patient_ids = {same_name(p.patient_id): p.patient_id for p in cohort.patients}
    types: dict[tuple[str, str], set[str]] = {}
    unmatched = []
    for row in rows:
        patient = same_name(row[form.patient])
        instance_id = _find(indices.get(patient, {}), row[form.image])
        if instance_id is None:
            unmatched.append(f"{row[form.patient]}/{row[form.image]}")
        else:
            types.setdefault((patient_ids[patient], instance_id), set()).add(row[form.cell_type])
    return types, unmatched, len(rows)


def _with_types(patient: Patient, types: dict[tuple[str, str], set[str]]) -> Patient:
    cells = []
    for cell in patient.cells:
        found = types.get((patient.patient_id, cell.instance_id), set())
        known = next(iter(found)) if len(found) == 1 else ""
        cells.append(replace(cell, cell_type=known) if known else cell)
    return replace(patient, cells=tuple(cells))


def _index(cells: tuple[Cell, ...]) -> dict[str, str]:
    """Map every unambiguous way to write a cell to its instance id, exact names first."""
    index: dict[str, str] = {}
    for spellings in zip(*(_spellings(cell.instance_id) for cell in cells), strict=True):
        counts = Counter(spellings)
        for cell, spelling in zip(cells, spellings, strict=True):
            if counts[spelling] == 1:
                index.setdefault(spelling, cell.instance_id)
    return index


def _find(index: dict[str, str], image: str) -> str | None:
    return next((index[s] for s in _spellings(image) if s in index), None)


def _spellings(image: str) -> tuple[str, ...]:
    """Ways to write an image, from exact to loose; each kind has its own prefix."""
    path = PurePosixPath(same_name(image.replace("\\", "/")))
    number = _NUMBERED.fullmatch(path.stem)
    loose = f"number:{int(number[1])}" if number else f"stem:{path.stem.casefold()}"
    return (f"path:{path}", f"name:{path.name}", f"stem:{path.stem.casefold()}", loose)
