"""Cohorts of single-cell images: readers, images, folds, fingerprints, synthetic patients."""

from aml_mil.cohort.cell_file import CellFile, load_file, measure_colour
from aml_mil.cohort.class_folders import ClassFolders, LabelledImage, read_class_folders
from aml_mil.cohort.errors import (
    CohortError,
    DamagedImageError,
    FilterError,
    FoldsError,
    LayoutError,
    TableError,
)
from aml_mil.cohort.filters import keep_cell_types
from aml_mil.cohort.fingerprint import (
    UNREAD,
    Copies,
    FileHashes,
    find_copies,
    source_fingerprint,
)
from aml_mil.cohort.folds import (
    FoldRoles,
    check_folds,
    count_folds,
    make_folds,
    read_folds,
    roles_of,
    write_folds,
)
from aml_mil.cohort.images import DECODE_RULE, RESIZE_RULE, decode_image, fit_image, read_image_file
from aml_mil.cohort.patients import Cell, Cohort, Patient
from aml_mil.cohort.readers import read_cohort
from aml_mil.cohort.synthetic import RenderProgress, render_cohort

__all__ = [
    "DECODE_RULE",
    "RESIZE_RULE",
    "UNREAD",
    "Cell",
    "CellFile",
    "ClassFolders",
    "Cohort",
    "CohortError",
    "Copies",
    "DamagedImageError",
    "FileHashes",
    "FilterError",
    "FoldRoles",
    "FoldsError",
    "LabelledImage",
    "LayoutError",
    "Patient",
    "RenderProgress",
    "TableError",
    "check_folds",
    "count_folds",
    "decode_image",
    "find_copies",
    "fit_image",
    "keep_cell_types",
    "load_file",
    "make_folds",
    "measure_colour",
    "read_class_folders",
    "read_cohort",
    "read_folds",
    "read_image_file",
    "render_cohort",
    "roles_of",
    "source_fingerprint",
    "write_folds",
]
