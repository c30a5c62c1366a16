"""Read a cohort from one table with a row for every image."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from aml_mil.cohort.errors import LayoutError, TableError, name_some
from aml_mil.cohort.listing import is_image_name, sort_naturally
from aml_mil.cohort.patients import Attribute, Cell, Cohort, Patient
from aml_mil.cohort.tables import parse_attribute, read_table

REQUIRED = ("patient_id", "image_path", "label")
COORDS = ("x_um", "y_um")
OPTIONAL = ("cell_type", "smear", *COORDS)

Row = Mapping[str, str]


def read_cell_table(path: Path) -> Cohort:
    """Read ``patient_id,image_path,label[,cell_type,smear,x_um,y_um]``.

    A cell's id is its image path as the table writes it. Further columns that are the same in all
    rows of each patient become attributes of the patients. An empty label is an unknown label.

    Args:
        path: The CSV; relative image paths start at its folder.

    Raises:
        TableError: A column or field is missing, an image stands twice, or rows of one patient
            disagree about the label.
        LayoutError: Image files are missing or are no images by name.
    """
    table = read_table(path, required=REQUIRED)
    _check_rows(path, table.rows)
    by_patient: dict[str, list[Row]] = {}
    for row in table.rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    further = [c for c in table.columns if c not in (*REQUIRED, *OPTIONAL)]
    constant = [
        column
        for column in further
        if all(len({row[column] for row in rows}) == 1 for rows in by_patient.values())
    ]
    patients = tuple(
        _read_patient(path, patient_id, by_patient[patient_id], constant)
        for patient_id in sort_naturally(by_patient)
    )
    ignored = [column for column in further if column not in constant]
    notes = (
        (f"columns of {path.name} that differ within patients are ignored: {name_some(ignored)}",)
        if ignored
        else ()
    )
    return Cohort(root=path.parent, patients=patients, notes=notes)


def _check_rows(path: Path, rows: Sequence[Row]) -> None:
    if not rows:
        message = f"expected a row for each image in {path}, got only a header"
        raise TableError(message)
    unnamed = [
        str(i)
        for i, row in enumerate(rows, start=1)
        if not row["patient_id"] or not row["image_path"]
    ]
    if unnamed:
        message = f"rows without a patient_id or image_path in {path}: {name_some(unnamed)}"
        raise TableError(f"{message}; fill them in or drop them")
    other = [row["image_path"] for row in rows if not is_image_name(Path(row["image_path"]).name)]
    if other:
        message = f"image paths in {path} that are not tif, jpeg, png or bmp: {name_some(other)}"
        raise LayoutError(f"{message}; drop their rows")
    missing = [row["image_path"] for row in rows if not _image_path(path, row).is_file()]
    if missing:
        message = (
            f"image files named in {path} but not there: {name_some(missing, total=len(rows))}"
        )
        raise LayoutError(f"{message}; paths are relative to {path.parent}")


def _read_patient(
    path: Path, patient_id: str, rows: Sequence[Row], constant: Sequence[str]
) -> Patient:
    labels = sorted({row["label"] for row in rows})
    if len(labels) > 1:
        message = f"expected one label for patient {patient_id} in {path}, got {name_some(labels)}"
        raise TableError(f"{message}; make its rows agree")
    cells: dict[str, Cell] = {}
    for row in rows:
        instance_id = _posix(row["image_path"]).as_posix()
        if instance_id in cells:
            message = f"image {instance_id} of patient {patient_id} stands twice in {path}"
            raise TableError(f"{message}; keep one row an image")
        cells[instance_id] = Cell(
            instance_id=instance_id,
            path=_image_path(path, row),
            smear=row.get("smear", ""),
            cell_type=row.get("cell_type", ""),
            coords=_coords(path, row),
        )
    return Patient(
        patient_id=patient_id,
        label=labels[0] or None,
        cells=tuple(cells[instance_id] for instance_id in sort_naturally(cells)),
        attributes={column: parse_attribute(rows[0][column]) for column in constant},
    )


def _coords(path: Path, row: Row) -> tuple[float, float] | None:
    x, y = (parse_attribute(row.get(column, "")) for column in COORDS)
    if x is None and y is None:
        return None
    if not _is_number(x) or not _is_number(y):
        message = f"expected x_um and y_um as numbers in {path}, got {x!r}, {y!r}"
        raise TableError(f"{message} for image {row['image_path']}; fill in both or neither")
    return float(x or 0), float(y or 0)


def _is_number(value: Attribute) -> bool:
    return isinstance(value, int | float)


def _posix(text: str) -> PurePosixPath:
    return PurePosixPath(text.replace("\\", "/"))


def _image_path(path: Path, row: Row) -> Path:
    as_written = path.parent / row["image_path"]
    return as_written if as_written.is_file() else path.parent / _posix(row["image_path"])
