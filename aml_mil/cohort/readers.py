"""Read a cohort of any supported layout."""

from collections.abc import Collection, Mapping
from pathlib import Path

from aml_mil.cohort.annotations import join_annotations
from aml_mil.cohort.cell_table import read_cell_table
from aml_mil.cohort.class_folders import holds_class_folders
from aml_mil.cohort.errors import LayoutError
from aml_mil.cohort.filters import drop_low_blasts, select_classes
from aml_mil.cohort.mll import find_metadata, read_mll
from aml_mil.cohort.patients import Cohort
from stores.manifest_file import MANIFEST_FILE
from stores.place import BAGS_DIR

EXPECTED = (
    "metadata.csv (patient_id, bag_label) and data/<bag_label>/<patient_id>/ with images, "
    "or a CSV with patient_id, image_path, label"
)


def read_cohort(
    path: str | Path,
    *,
    classes: Collection[str] | None = None,
    merge_labels: Mapping[str, str] | None = None,
    min_malignant_percent: float | None = None,
) -> Cohort:
    """Read patients, cells, labels and cell types; no image is opened.

    Args:
        path: Folder in the MLL/TCIA layout, or a CSV with a row for every image.
        classes: Keep patients whose label, before or after merging, is one of these.
        merge_labels: New label by old label.
        min_malignant_percent: Drop AML patients whose myeloblasts + promyelocytes + myelocytes
            stay below; 0 to 100.

    Returns:
        At least one patient, each with at least one image file.

    Raises:
        CohortError: Something is missing or contradicts itself; the message names it.
        ValueError: An argument is out of range.
    """
    source = Path(path)
    cohort = _read_layout(source)
    if min_malignant_percent is not None:
        cohort = drop_low_blasts(cohort, min_malignant_percent)
    if classes is not None or merge_labels:
        cohort = select_classes(cohort, classes=classes, merge_labels=merge_labels)
    return cohort


def _read_layout(source: Path) -> Cohort:
    if source.is_file():
        return read_cell_table(source)
    if not source.is_dir():
        message = f"expected a cohort at {source}, got no such file or folder; check the path"
        raise LayoutError(message)
    if tables := find_metadata(source):
        return join_annotations(read_mll(source, metadata=tables))
    if holds_class_folders(source):
        message = (
            f"{source} holds images by class but no patients; expected {EXPECTED}; "
            f"folders of classes alone serve pre-training only"
        )
        raise LayoutError(message)
    if (source / MANIFEST_FILE).is_file() and (source / BAGS_DIR).is_dir():
        message = f"{source} is a feature store; expected a cohort of images: {EXPECTED}"
        raise LayoutError(message)
    message = f"no metadata.csv in {source}; expected {EXPECTED}"
    raise LayoutError(message)
