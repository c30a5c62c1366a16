"""Small cohorts drawn on the spot, and the encoder that embeds them in milliseconds."""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from aml_mil.cohort import Cohort, read_cohort
from aml_mil.embedding import EmbedConfig, EmbedRun, EmbedSummary, embed
from aml_mil.encoders import Encoder, load_encoder

SIZE_PX = 32
LABELS = {"AQK": "APL", "BZF": "AML", "CTL": "AML"}
NUM_CELLS = {"AQK": 9, "BZF": 4, "CTL": 7}


def tiny_encoder(seed: int = 0, *, image_size_px: int = SIZE_PX) -> Encoder:
    return load_encoder("test_resnet", weights=f"random:{seed}", image_size_px=image_size_px)


def draw_cell(path: Path, *, size_px: int = SIZE_PX) -> None:
    """Draw noise that the file's name decides."""
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-2:]).encode()))
    pixels = rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def draw_patient(root: Path, patient_id: str, label: str, num_cells: int) -> Path:
    folder = root / "data" / label / patient_id
    folder.mkdir(parents=True)
    for number in range(num_cells):
        draw_cell(folder / f"image_{number}.png")
    return folder


def write_table(root: Path, labels: dict[str, str], extra: str = "") -> None:
    rows = [f"{patient_id},{label}{extra}" for patient_id, label in labels.items()]
    header = "patient_id,bag_label" + (",age" if extra else "")
    (root / "metadata.csv").write_text("\n".join([header, *rows, ""]))


def draw_cohort(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    for patient_id, label in LABELS.items():
        draw_patient(root, patient_id, label, NUM_CELLS[patient_id])
    write_table(root, LABELS)
    return root


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def run(root: Path | Cohort, store: Path, encoder: Encoder, **settings: object) -> EmbedSummary:
    finished = start(root, store, encoder, **settings)
    for _ in finished:
        pass
    return finished.summary


def start(root: Path | Cohort, store: Path, encoder: Encoder, **settings: object) -> EmbedRun:
    cohort = root if isinstance(root, Cohort) else read_cohort(root)
    defaults = {"precision": "fp32", "batch_size": 6, "workers": 2, "device": "cpu"}
    return embed(cohort, encoder, store, EmbedConfig(**{**defaults, **settings}))


def interrupt_after_a_bag(unfinished: EmbedRun, store: Path) -> None:
    """Go on until the store holds a bag, and stop there."""
    steps = iter(unfinished)
    while not any((store / "bags").glob("*/bag.json")):
        next(steps)
    steps.close()  # type: ignore[attr-defined]


def bag_bytes(store: Path) -> dict[str, bytes]:
    """All files of all bags, by their path below the store."""
    files = sorted((store / "bags").rglob("*"))
    return {str(f.relative_to(store)): f.read_bytes() for f in files if f.is_file()}
