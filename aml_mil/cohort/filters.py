"""Keep some patients or cells, and bring labels together."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from aml_mil.cohort.errors import FilterError, name_some
from aml_mil.cohort.patients import Cohort, Patient

MALIGNANT_COLUMNS = ("pb_myeloblast", "pb_promyelocyte", "pb_myelocyte")
CONTROL = "control"


def drop_low_blasts(cohort: Cohort, min_malignant_percent: float) -> Cohort:
    """Drop AML patients with too few immature cells in the differential count.

    Patients labelled "control" stay, and so do patients with an empty field: nothing is known
    against them. Both are said in the notes.

    Args:
        cohort: With the columns of `MALIGNANT_COLUMNS`, in percent.
        min_malignant_percent: Myeloblasts + promyelocytes + myelocytes must reach it, 0 to 100.

    Raises:
        ValueError: The threshold is not a percentage.
        FilterError: A column is missing, holds text, or nobody is left.

    Source:
        Hehr et al. 2023, https://doi.org/10.1371/journal.pdig.0000187, with 20 percent.
    """
    if not 0 <= min_malignant_percent <= 100:
        message = f"expected min_malignant_percent from 0 to 100, got {min_malignant_percent}"
        raise ValueError(message)
    patients = [p for p in cohort.patients if (p.label or "").casefold() != CONTROL]
    missing = [c for c in MALIGNANT_COLUMNS if any(c not in p.attributes for p in patients)]
    if missing:
        message = (
            f"columns for min_malignant_percent missing in the metadata of {cohort.root}: "
            f"{name_some(missing)}; add them or leave the filter out"
        )
        raise FilterError(message)
    dropped, unknown = [], []
    for patient in patients:
        percent = _malignant_percent(patient)
        if percent is None:
            unknown.append(patient.patient_id)
        elif percent < min_malignant_percent:
            dropped.append(patient.patient_id)
    kept = tuple(p for p in cohort.patients if p.patient_id not in set(dropped))
    note = f"min_malignant_percent {min_malignant_percent:g}: dropped {len(dropped)} of "
    note += f"{len(patients)} AML patients"
    note += f": {name_some(dropped)}" if dropped else ""
    notes = [note]
    if unknown:
        notes.append(f"kept for want of a differential count: {name_some(unknown)}")
    return _nonempty(replace(cohort, patients=kept, notes=(*cohort.notes, *notes)), note)


def select_classes(
    cohort: Cohort,
    *,
    classes: Collection[str] | None,
    merge_labels: Mapping[str, str] | None,
) -> Cohort:
    """Rename labels, then keep the patients of some classes.

    Args:
        cohort: Any.
        classes: Kept are patients whose label is one of these before or after the renaming; all
            where None.
        merge_labels: New label by old label; several old labels may share a new one.

    Raises:
        FilterError: A label is named that no patient has, or nobody is left.
    """
    renaming = dict(merge_labels or {})
    known = list(cohort.classes)
    unknown = [label for label in renaming if label not in known]
    if unknown:
        message = f"labels to merge that no patient has: {name_some(unknown)}"
        raise FilterError(f"{message}; the cohort has {name_some(known)}")
    merged = [
        (p.label, replace(p, label=renaming.get(p.label or "", p.label))) for p in cohort.patients
    ]
    notes = list(cohort.notes)
    if renaming:
        notes.append("labels merged: " + ", ".join(f"{a} → {b}" for a, b in renaming.items()))
    if classes is not None:
        known = sorted({label for old, p in merged for label in (old, p.label) if label})
        unknown = [label for label in classes if label not in known]
        if unknown:
            message = f"classes that no patient has: {name_some(unknown)}"
            raise FilterError(f"{message}; the cohort has {name_some(known)}")
        kept = [(old, p) for old, p in merged if old in classes or p.label in classes]
        notes.append(f"classes {', '.join(classes)}: kept {len(kept)} of {len(merged)} patients")
        merged = kept
    patients = tuple(patient for _, patient in merged)
    return _nonempty(replace(cohort, patients=patients, notes=tuple(notes)), "classes")


def keep_cell_types(cohort: Cohort, cell_types: Collection[str]) -> Cohort:
    """Keep the cells to which experts gave one of some types.

    Patients stay, even those of whom no cell is left.

    Args:
        cohort: With cell types.
        cell_types: As the annotations write them.

    Raises:
        FilterError: No cell is of such a type.
    """
    wanted = set(cell_types)
    patients = tuple(
        replace(patient, cells=tuple(c for c in patient.cells if c.cell_type in wanted))
        for patient in cohort.patients
    )
    known = sorted({c.cell_type for p in cohort.patients for c in p.cells if c.cell_type})
    kept = replace(cohort, patients=patients)
    if not kept.num_cells:
        message = f"no cell of {cohort.root} is of a type asked for, {name_some(sorted(wanted))}; "
        message += (
            f"its {len(known)} types are {', '.join(map(repr, known))}"
            if known
            else ("none of its cells has a type: add cell_annotations.csv or a column cell_type")
        )
        raise FilterError(message)
    notes = [f"cell types: kept {kept.num_cells} of {cohort.num_cells} images"]
    if absent := sorted(wanted - set(known)):
        notes.append(f"cell types that no cell has: {name_some(absent)}")
    return replace(kept, notes=(*cohort.notes, *notes))


def _malignant_percent(patient: Patient) -> float | None:
    total = 0.0
    for column in MALIGNANT_COLUMNS:
        value = patient.attributes[column]
        if value is None:
            return None
        if isinstance(value, str):
            message = (
                f"expected a number in {column} of patient {patient.patient_id}, got {value!r}"
            )
            raise FilterError(f"{message}; correct the metadata")
        total += value
    return total


def _nonempty(cohort: Cohort, filter_name: str) -> Cohort:
    if not cohort.patients:
        message = f"no patients left in {cohort.root} after the filter {filter_name}; loosen it"
        raise FilterError(message)
    return cohort
