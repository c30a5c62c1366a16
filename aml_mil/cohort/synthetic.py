"""Render a synthetic cohort in the MLL layout: cell types decide the label, colour does not.

Every cell is brought to a mean and s.d. of each channel that are drawn from its patient's stain,
whatever its type, so that colour statistics carry nothing about the label.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aml_mil.cohort.cell_types import (
    ABNORMAL_EOSINOPHIL,
    AUER_ROD_BLAST,
    CUP_LIKE_BLAST,
    EOSINOPHIL,
    FAGGOT_CELL,
    LYMPHOCYTE,
    MONOCYTE,
    MYELOBLAST,
    NEUTROPHIL,
    paint_cell,
)
from aml_mil.cohort.errors import LayoutError
from aml_mil.cohort.painting import Textures, match_colour
from aml_mil.files import write_csv

CONTROL = "control"
# In the order in which they enter: a small cohort has fewer labels rather than fewer than
# PATIENTS_PER_LABEL patients of each.
DECIDING_TYPES: MappingProxyType[str, str] = MappingProxyType(
    {
        CONTROL: "",
        "PML_RARA": FAGGOT_CELL,
        "NPM1": CUP_LIKE_BLAST,
        "CBFB_MYH11": ABNORMAL_EOSINOPHIL,
        "RUNX1_RUNX1T1": AUER_ROD_BLAST,
    }
)
PATIENTS_PER_LABEL = 5
MAX_PATIENTS = 26**3
NORMAL_TYPES = MappingProxyType(
    {NEUTROPHIL: 0.55, LYMPHOCYTE: 0.27, MONOCYTE: 0.12, EOSINOPHIL: 0.06}
)
DIFFERENTIAL = MappingProxyType(
    {
        "pb_myeloblast": (MYELOBLAST, CUP_LIKE_BLAST, AUER_ROD_BLAST),
        "pb_promyelocyte": (FAGGOT_CELL,),
        "pb_myelocyte": (),
        "pb_neutrophil_segmented": (NEUTROPHIL,),
        "pb_eosinophil": (EOSINOPHIL, ABNORMAL_EOSINOPHIL),
        "pb_monocyte": (MONOCYTE,),
        "pb_lymph_typ": (LYMPHOCYTE,),
    }
)
# Of a well-stained smear: mean and s.d. of R, G, B over the picture, 0 … 1.
STAIN_MEAN = (0.815, 0.735, 0.775)
STAIN_DEVIATION = (0.160, 0.192, 0.122)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderProgress:
    """Where the rendering stands after one patient.

    Attributes:
        patient_id: The patient just written.
        patients_done: Including this one.
        patients_total: As asked for.
        cells_done: Over all patients so far.
        cells_total: As asked for.
    """

    patient_id: str
    patients_done: int
    patients_total: int
    cells_done: int
    cells_total: int


class _Stain(NamedTuple):
    mean: NDArray[np.float64]
    log_deviation: NDArray[np.float64]


def render_cohort(
    out_dir: str | Path, *, num_patients: int, cells_per_patient: int, seed: int
) -> Iterator[RenderProgress]:
    """Render metadata.csv, cell_annotations.csv and data/<label>/<patient>/image_<i>.tif.

    The five labels are balanced; with fewer than 25 patients there are fewer labels, so that each
    keeps 5 patients and five folds can be made. Each patient depends on the seed alone.

    Args:
        out_dir: New or empty folder. The tables are written last: a cohort without them is
            unfinished.
        num_patients: From 1 to 17,576.
        cells_per_patient: At least 1.
        seed: Of everything.

    Returns:
        One record a patient; rendering happens while they are consumed.

    Raises:
        ValueError: A number is out of range.
        LayoutError: The folder is not empty.
    """
    if not 1 <= num_patients <= MAX_PATIENTS:
        message = f"expected 1 to {MAX_PATIENTS} patients, got {num_patients}"
        raise ValueError(message)
    if cells_per_patient < 1:
        message = f"expected at least 1 cell per patient, got {cells_per_patient}"
        raise ValueError(message)
    root = Path(out_dir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        message = f"expected a new or empty folder at {root}, got one in use; choose another name"
        raise LayoutError(message)
    return _render(root, num_patients, cells_per_patient, seed)


def _render(
    root: Path, num_patients: int, cells_per_patient: int, seed: int
) -> Iterator[RenderProgress]:
    seeds = np.random.SeedSequence(seed).spawn(num_patients + 1)
    rng = np.random.default_rng(seeds[0])
    textures = Textures(rng)
    labels = _draw_labels(num_patients, rng)
    patient_ids = _draw_ids(num_patients, rng)
    metadata: list[dict[str, str | int]] = []
    annotations: list[tuple[str, str, str]] = []
    for i, (patient_id, label) in enumerate(zip(patient_ids, labels, strict=True)):
        patient_rng = np.random.default_rng(seeds[i + 1])
        types = draw_types(label, cells_per_patient, patient_rng)
        _render_patient(root / "data" / label / patient_id, types, patient_rng, textures)
        metadata.append(_describe(i, patient_id, label, types, patient_rng))
        annotations.extend((patient_id, f"image_{j}.tif", t) for j, t in enumerate(types))
        done = i + 1
        if done == num_patients:
            _write_tables(root, metadata, annotations)
        yield RenderProgress(
            patient_id=patient_id,
            patients_done=done,
            patients_total=num_patients,
            cells_done=done * cells_per_patient,
            cells_total=num_patients * cells_per_patient,
        )


def draw_types(label: str, num_cells: int, rng: np.random.Generator) -> list[str]:
    """Draw a patient's cell types in random order.

    Healthy patients have normal cells only. In leukaemia 40 to 55 percent are of the label's
    deciding type (at least one cell), and 20 to 26 percent myeloblasts as in any leukaemia.
    """
    types: list[str] = []
    if deciding := DECIDING_TYPES[label]:
        types += [deciding] * max(1, round(rng.uniform(0.40, 0.55) * num_cells))
        num_blasts = math.ceil(rng.uniform(0.2, 0.26) * num_cells)
        types += [MYELOBLAST] * min(num_blasts, num_cells - len(types))
    shares = rng.dirichlet(20 * np.array(list(NORMAL_TYPES.values())))
    counts = rng.multinomial(num_cells - len(types), shares)
    for normal, count in zip(NORMAL_TYPES, counts.tolist(), strict=True):
        types += [normal] * count
    return [types[i] for i in rng.permutation(num_cells)]


def _draw_labels(num_patients: int, rng: np.random.Generator) -> list[str]:
    num_labels = min(len(DECIDING_TYPES), max(2, num_patients // PATIENTS_PER_LABEL))
    labels = list(DECIDING_TYPES)[:num_labels]
    dealt = [labels[i % num_labels] for i in range(num_patients)]
    return [dealt[i] for i in rng.permutation(num_patients)]


def _draw_ids(num_patients: int, rng: np.random.Generator) -> list[str]:
    numbers = np.sort(rng.choice(MAX_PATIENTS, size=num_patients, replace=False)).tolist()
    return ["".join(chr(65 + n // 26**k % 26) for k in (2, 1, 0)) for n in numbers]


def _draw_stain(rng: np.random.Generator) -> _Stain:
    """Draw a patient's stain: brightness, hue and contrast, whatever the patient has."""
    mean = np.array(STAIN_MEAN) + rng.normal(0, 0.02) + rng.normal(0, 0.012, 3)
    log_deviation = np.log(STAIN_DEVIATION) + rng.normal(0, 0.06) + rng.normal(0, 0.04, 3)
    return _Stain(mean, log_deviation)


def _render_patient(
    folder: Path, types: Sequence[str], rng: np.random.Generator, textures: Textures
) -> None:
    folder.mkdir(parents=True)
    stain = _draw_stain(rng)
    for i, cell_type in enumerate(types):
        mean = stain.mean + rng.normal(0, 0.01) + rng.normal(0, 0.006, 3)
        deviation = np.exp(stain.log_deviation + rng.normal(0, 0.05) + rng.normal(0, 0.025, 3))
        painted = paint_cell(cell_type, rng, textures)
        pixels = match_colour(painted, mean.astype(np.float32), deviation.astype(np.float32))
        image = Image.fromarray(pixels)
        if rng.random() < 0.5:
            image = image.convert("RGBA")
        image.save(folder / f"image_{i}.tif", compression="tiff_lzw")


def _describe(
    index: int, patient_id: str, label: str, types: Sequence[str], rng: np.random.Generator
) -> dict[str, str | int]:
    """Make the patient's row of metadata.csv, with the decimal commas of the published table."""
    counts = Counter(types)
    leucocytes = f"{rng.lognormal(2.3, 0.8):.1f}".replace(".", ",")
    return {
        "": index,
        "patient_id": patient_id,
        "sex_1f_2m": int(rng.integers(1, 3)),
        "age": f"{rng.uniform(20, 85):.1f}".replace(".", ",").removesuffix(",0"),
        "bag_label": label,
        "instance_count": len(types),
        "leucocytes_perl": leucocytes if rng.random() < 0.6 else "",
        **{
            column: round(100 * sum(counts[t] for t in members) / len(types))
            for column, members in DIFFERENTIAL.items()
        },
        "pb_total": 100,
    }


def _write_tables(
    root: Path,
    metadata: Sequence[dict[str, str | int]],
    annotations: Sequence[tuple[str, str, str]],
) -> None:
    write_csv(root / "cell_annotations.csv", ("patient_id", "image", "cell_type"), annotations)
    columns = list(metadata[0])
    write_csv(root / "metadata.csv", columns, [[row[c] for c in columns] for row in metadata])
