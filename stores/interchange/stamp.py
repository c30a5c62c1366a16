"""STAMP: ``{patient or slide}.h5`` with ``feats`` and ``coords``; clini and slide tables.

A bag is a patient: the files the slide table gives a patient become one bag, as STAMP trains.
Without a slide table a file is a patient. N instances, D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stores.documents import JSON
from stores.interchange.errors import SourceError, name_some
from stores.interchange.folders import files_of, one_value
from stores.interchange.h5_files import H5Description, describe_h5, load_h5
from stores.interchange.source import (
    Content,
    FeatureSpec,
    Finding,
    ImportOptions,
    Source,
    SourceBag,
)
from stores.interchange.tables import check_labels, find_table, labels_for, notes_on, read_labels

FEATURES = "feats"
PATIENT_COLUMN = "PATIENT"
FILE_COLUMN = "FILENAME"
LABEL_COLUMN = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PatientFiles:
    """The files of one patient, in the slide table's order, to be read as one bag."""

    paths: tuple[Path, ...]

    def __call__(self) -> Content:
        parts = [load_h5(path, features=FEATURES) for path in self.paths]
        if len(parts) == 1:
            return parts[0]
        places = [part.coords for part in parts]
        named = [
            (path.stem, len(part.features)) for path, part in zip(self.paths, parts, strict=True)
        ]
        return Content(
            features=np.concatenate([part.features for part in parts]),
            coords=None if any(p is None for p in places) else np.concatenate(places),  # type: ignore[arg-type]
            instance_ids=tuple(f"{stem}/{i}" for stem, count in named for i in range(count)),
            smear=tuple(stem for stem, count in named for _ in range(count)),
        )


def open_stamp(path: Path, options: ImportOptions) -> Source:
    """Describe the features STAMP wrote.

    Args:
        path: The folder of an extractor.
        options: Clini table as ``labels``, slide table, names of the clini table's columns.

    Raises:
        SourceError: files, tables or arrays are not as STAMP writes them.
    """
    files = files_of(path, (".h5",))
    found = {name: describe_h5(file, features=FEATURES) for name, file in files.items()}
    slides = options.slides or find_table(path, (PATIENT_COLUMN,), (FILE_COLUMN,))
    clini = labels_for(path, options, id_columns=(PATIENT_COLUMN,), label_columns=(LABEL_COLUMN,))
    patients, findings = _patients(files, slides)
    bags = []
    for patient, names in patients.items():
        spec = _joint_spec([found[name] for name in names], patient=patient)
        about = dict(clini.attributes.get(patient, {})) if clini else {}
        bags.append(
            SourceBag(
                bag_id=patient,
                place=name_some([str(files[name]) for name in names]),
                spec=spec,
                load=_PatientFiles(paths=tuple(files[name] for name in names)),
                label=clini.labels.get(patient) if clini else None,
                attributes={**about, **_attributes({name: found[name] for name in names})},
            )
        )
    extractors = (_text(item.attributes.get("extractor")) for item in found.values())
    unknown = options.allow_unknown_labels
    return Source(
        importer="stamp",
        path=path,
        encoder=one_value(extractors, place=str(path), what="extractors"),
        bags=tuple(bags),
        findings=(*findings, *check_labels(clini, tuple(patients), allow_unknown=unknown)),
        notes=(*((f"slides from {slides}",) if slides else ()), *notes_on(clini)),
    )


def _text(value: JSON) -> str | None:
    return value if isinstance(value, str) else None


def _patients(
    files: Mapping[str, Path], slides: Path | None
) -> tuple[dict[str, list[str]], list[Finding]]:
    """Group files by patient."""
    if slides is None:
        return {name: [name] for name in files}, []
    table = read_labels(slides, id_columns=(FILE_COLUMN,), label_columns=(PATIENT_COLUMN,))
    patients: dict[str, list[str]] = {}
    missing = []
    for filename, patient in table.labels.items():
        name = filename.removesuffix(".h5")
        if name not in files:
            missing.append(filename)
        elif patient is None:
            raise SourceError(f"{slides}: {filename} has no {PATIENT_COLUMN}; fill it in")
        else:
            patients.setdefault(patient, []).append(name)
    if missing:
        raise SourceError(
            f"{slides} names files that are not there: "
            f"{name_some(missing, total=len(table.labels))}; extract them or drop the rows"
        )
    used = {name for names in patients.values() for name in names}
    problem = f"the file is not in {slides.name}; left out"
    return patients, [Finding(bag_id=n, problem=problem) for n in files if n not in used]


def _joint_spec(parts: Sequence[H5Description], *, patient: str) -> FeatureSpec:
    shapes = {part.spec.feature_shape for part in parts}
    dtypes = {part.spec.dtype for part in parts}
    if len(shapes) > 1 or len(dtypes) > 1:
        raise SourceError(
            f"patient {patient!r}: the files differ in shape or dtype of {FEATURES}: "
            f"{name_some(sorted(map(str, shapes)))}, {name_some(sorted(dtypes))}; extract anew"
        )
    if len({part.coords_dtype is None for part in parts}) > 1:
        raise SourceError(f"patient {patient!r}: only some of the files have coords; extract anew")
    return FeatureSpec(
        num_instances=sum(part.spec.num_instances for part in parts),
        feature_shape=shapes.pop(),
        dtype=dtypes.pop(),
    )


def _attributes(parts: Mapping[str, H5Description]) -> dict[str, JSON]:
    """Keep the files' attributes; by file where there are several."""
    kept: dict[str, JSON] = {name: dict(part.attributes) for name, part in parts.items()}
    first = next(iter(kept.values()))
    return {"stamp": first if len(kept) == 1 else kept} if first or len(kept) > 1 else {}
