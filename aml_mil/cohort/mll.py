"""Read the MLL/TCIA layout: metadata.csv and data/<bag_label>/<patient_id>/…/image_<i>.<ext>."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_mil.cohort.errors import LayoutError, TableError, name_some
from aml_mil.cohort.listing import (
    is_image_name,
    list_cells,
    same_name,
    sort_naturally,
    subfolders,
)
from aml_mil.cohort.patients import Cohort, Patient
from aml_mil.cohort.tables import Table, parse_attribute, read_table

PATIENT, LABEL = "patient_id", "bag_label"


@dataclass(frozen=True, slots=True)
class _Row:
    patient_id: str
    label: str
    values: Mapping[str, str]


def find_metadata(root: Path) -> tuple[Path, ...]:
    """Find metadata.csv, or all metadata_*.csv where there is none; nothing if neither."""
    whole = root / "metadata.csv"
    if whole.is_file():
        return (whole,)
    parts = (path.name for path in root.glob("metadata_*.csv") if not path.name.startswith("."))
    return tuple(root / name for name in sort_naturally(parts))


def read_mll(root: Path, *, metadata: Sequence[Path]) -> Cohort:
    """Read a cohort in the MLL layout.

    Args:
        root: Folder with ``data/<bag_label>/<patient_id>/``.
        metadata: One table, or several whose rows are joined.

    Raises:
        TableError: A column is missing, a field is empty, or a patient stands twice.
        LayoutError: Rows and folders do not match, or a patient has no images.
    """
    tables = [read_table(path, required=(PATIENT, LABEL)) for path in metadata]
    source = ", ".join(table.path.name for table in tables)
    rows = _collect_rows(tables, source)
    data = root / "data"
    if not data.is_dir():
        message = f"expected {data}/<{LABEL}>/<{PATIENT}>/ with images, got no folder data"
        raise LayoutError(message)
    folders = {label: subfolders(path) for label, path in subfolders(data).items()}
    _check_folders(root, source, rows, folders)
    columns = dict.fromkeys(c for t in tables for c in t.columns if c not in (PATIENT, LABEL))
    patients, skipped, empty = [], _loose_files(data), []
    for patient_id in sort_naturally(rows):
        row = rows[patient_id]
        listing = list_cells(folders[same_name(row.label)][same_name(patient_id)])
        skipped.extend(f"{patient_id}/{name}" for name in listing.skipped)
        if not listing.cells:
            empty.append(f"{row.label}/{patient_id}")
        attributes = {column: parse_attribute(row.values.get(column, "")) for column in columns}
        patients.append(
            Patient(
                patient_id=patient_id,
                label=row.label,
                cells=listing.cells,
                attributes=attributes,
            )
        )
    if empty:
        message = (
            f"patient folders without an image under {data}: {name_some(empty, total=len(rows))}; "
            f"add their images or drop their rows from {source}"
        )
        raise LayoutError(message)
    notes = _notes(tables, skipped)
    return Cohort(root=root, patients=tuple(patients), skipped_files=len(skipped), notes=notes)


def _collect_rows(tables: Sequence[Table], source: str) -> dict[str, _Row]:
    found = [_Row(row[PATIENT], row[LABEL], row) for table in tables for row in table.rows]
    unnamed = [str(i) for i, row in enumerate(found, start=1) if not row.patient_id]
    if unnamed:
        message = f"rows without a {PATIENT} in {source}: {name_some(unnamed, total=len(found))}"
        raise TableError(f"{message}; fill it in or drop them")
    unlabelled = [row.patient_id for row in found if not row.label]
    if unlabelled:
        message = f"patients without a {LABEL} in {source}: {name_some(unlabelled)}"
        raise TableError(f"{message}; fill it in or drop their rows")
    counts = Counter(same_name(row.patient_id) for row in found)
    twice = [patient_id for patient_id, count in counts.items() if count > 1]
    if twice:
        message = f"patients with more than one row in {source}: {name_some(twice)}"
        raise TableError(f"{message}; keep one row a patient")
    if not found:
        message = f"expected a row for each patient in {source}, got only a header"
        raise TableError(message)
    return {row.patient_id: row for row in found}


def _check_folders(
    root: Path,
    source: str,
    rows: Mapping[str, _Row],
    folders: Mapping[str, Mapping[str, Path]],
) -> None:
    """Compare rows and folders both ways, and say everything that is wrong in one line."""
    labels_of: dict[str, list[str]] = {}
    for label, patients in folders.items():
        for patient_id in patients:
            labels_of.setdefault(patient_id, []).append(label)
    known = {same_name(patient_id) for patient_id in rows}
    missing = [patient_id for patient_id in rows if same_name(patient_id) not in labels_of]
    unknown = [f"{labels_of[p][0]}/{p}" for p in labels_of if p not in known]
    misplaced = [
        f"{row.patient_id} ({row.label} in the table, under {', '.join(others)})"
        for row in rows.values()
        if (others := _other_labels(labels_of, row))
    ]
    problems = {
        f"ids in {source} but without a folder under data/": missing,
        f"folders under data/ but without a row in {source}": unknown,
        "patients whose folder lies under another label": misplaced,
    }
    named = [f"{what}: {name_some(ids, total=len(rows))}" for what, ids in problems.items() if ids]
    if named:
        message = f"{'; '.join(named)}; check {LABEL} and the folders in {root}"
        raise LayoutError(message)


def _other_labels(labels_of: Mapping[str, Sequence[str]], row: _Row) -> list[str]:
    under = labels_of.get(same_name(row.patient_id), ())
    return [label for label in under if label != same_name(row.label)]


def _loose_files(data: Path) -> list[str]:
    """Files that lie above the patients' folders, where no cell belongs."""
    folders = [data, *(path for path in data.iterdir() if path.is_dir())]
    return [str(path) for folder in folders for path in folder.iterdir() if path.is_file()]


def _notes(tables: Sequence[Table], skipped: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if len(tables) > 1:
        parts = ", ".join(f"{table.path.name} ({len(table.rows)})" for table in tables)
        notes.append(f"metadata joined from {parts}")
    stray = [
        path for path in skipped if is_image_name(Path(path).name) and Path(path).is_absolute()
    ]
    if others := [path for path in skipped if path not in stray]:
        named = name_some(_below_data(path) for path in others)
        notes.append(f"hidden files and files that are no images were skipped: {named}")
    if stray:
        named = name_some(map(_below_data, stray))
        notes.append(f"images that lie in no patient's folder were skipped: {named}")
    return tuple(notes)


def _below_data(path: str) -> str:
    """Name a skipped file shortly; only what lies above the patients has an absolute path."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else path
