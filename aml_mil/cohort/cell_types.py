"""Types of synthetic cells, by morphology alone: lobes, indentations, granules, rods, nucleoli."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from aml_mil.cohort.painting import PURPLE, Array, CellPainter, Colour, Textures, coverage, join

PINK: Colour = (0.87, 0.77, 0.82)
BLUE: Colour = (0.66, 0.67, 0.84)
GREY_BLUE: Colour = (0.73, 0.72, 0.83)
EOSIN: Colour = (0.84, 0.55, 0.50)
SALMON: Colour = (0.82, 0.47, 0.52)
ROD: Colour = (0.58, 0.16, 0.42)

NEUTROPHIL = "neutrophil granulocyte (segmented)"
LYMPHOCYTE = "typical lymphocyte"
MONOCYTE = "monocyte"
EOSINOPHIL = "eosinophil granulocyte"
MYELOBLAST = "myeloblast"
FAGGOT_CELL = "faggot cell"
CUP_LIKE_BLAST = "cup-like blast"
ABNORMAL_EOSINOPHIL = "abnormal eosinophil"
AUER_ROD_BLAST = "myeloblast with long auer rod"


def paint_cell(cell_type: str, rng: np.random.Generator, textures: Textures) -> Array:
    """Paint one cell of a type in its red-cell background, [3, S, S] in about 0 … 1."""
    ruggedness = 3.2 if cell_type == MONOCYTE else 1.8
    painter = CellPainter(rng, textures, ruggedness=ruggedness)
    painter.paint_red_cells(clearance_px=rng.uniform(40, 54))
    PAINTERS[cell_type](painter)
    painter.add_noise(0.006)
    return painter.image


def _neutrophil(p: CellPainter) -> None:
    radius = p.rng.uniform(36, 42)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.9, 1)), PINK)
    num_lobes = p.rng.integers(3, 6)
    bend = p.rng.uniform(0.75, 1.15)
    angles = (np.arange(num_lobes) - (num_lobes - 1) / 2) * bend + p.rng.normal(0, 0.1, num_lobes)
    reach = radius * p.rng.uniform(0.42, 0.5)
    centres = [(reach * float(np.cos(a)) - 3, reach * float(np.sin(a))) for a in angles]
    nucleus: Array | None = None
    for i, (x, y) in enumerate(centres):
        lobe = p.ellipse(x, y, p.rng.uniform(8.5, 11), p.rng.uniform(8.5, 11))
        nucleus = lobe if nucleus is None else np.minimum(nucleus, lobe)
        if i:
            strand = p.segment(centres[i - 1], (x, y), width=3.2)
            nucleus = join(nucleus, strand, blend_px=2)
    assert nucleus is not None
    p.paint_nucleus(nucleus, clumping=0.8, density=0.75)
    p.paint_granules(150, radius_px=0.8, colour=(0.72, 0.52, 0.66), opacity=0.35)


def _lymphocyte(p: CellPainter) -> None:
    radius = p.rng.uniform(27, 32)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.9, 1)), BLUE)
    size = radius * p.rng.uniform(0.82, 0.88)
    nucleus = p.ellipse(p.rng.uniform(-2, 2), 0, size, size * p.rng.uniform(0.9, 1))
    p.paint_nucleus(nucleus, clumping=0.9, density=0.7)


def _monocyte(p: CellPainter) -> None:
    radius = p.rng.uniform(47, 54)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.85, 1)), GREY_BLUE)
    size = radius * p.rng.uniform(0.58, 0.66)
    band = p.ellipse(-6, 0, size * 0.8, size * 1.2)
    notch = p.ellipse(size * 0.75, p.rng.uniform(-4, 4), size * 0.75, size * 0.6)
    p.paint_nucleus(-join(-band, notch, blend_px=8), clumping=0.6, density=0.15)
    p.paint_granules(120, radius_px=0.7, colour=(0.60, 0.45, 0.62), opacity=0.35)
    p.paint_vacuoles(int(p.rng.integers(6, 14)))


def _eosinophil(p: CellPainter) -> None:
    radius = p.rng.uniform(37, 42)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.92, 1)), PINK)
    size, apart = p.rng.uniform(12, 14), p.rng.uniform(13, 15)
    lobes = np.minimum(p.ellipse(-6, -apart, size), p.ellipse(-6, apart, size))
    strand = p.segment((-9, -apart), (-9, apart), width=4)
    p.paint_nucleus(join(lobes, strand, blend_px=3), clumping=0.8, density=0.65)
    p.paint_granules(260, radius_px=1.9, colour=EOSIN, opacity=0.85)


def _myeloblast(p: CellPainter) -> None:
    radius = p.rng.uniform(36, 43)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.9, 1)), BLUE)
    size = radius * p.rng.uniform(0.78, 0.84)
    nucleus = p.ellipse(p.rng.uniform(-4, 0), 0, size, size * p.rng.uniform(0.92, 1))
    p.paint_nucleus(nucleus, clumping=0.1, density=0.3)
    p.paint_nucleoli(int(p.rng.integers(2, 5)))


def _faggot_cell(p: CellPainter) -> None:
    radius = p.rng.uniform(44, 51)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.88, 1)), (0.76, 0.68, 0.80))
    x, size = -radius * 0.42, radius * p.rng.uniform(0.40, 0.46)
    lobes = join(p.ellipse(x, -size * 0.62, size), p.ellipse(x, size * 0.62, size), blend_px=5)
    p.paint_nucleus(lobes, clumping=0.3, density=0.35)
    p.paint_granules(220, radius_px=1.0, colour=PURPLE, opacity=0.55, over=True)
    middle = p.scatter_local(np.maximum(p.body, -p.nucleus), margin_px=9)
    rods: Array = np.full_like(p.body, np.inf)
    main = p.rng.uniform(0, np.pi)
    for _ in range(p.rng.integers(13, 20)):
        angle = main + 0.9 * int(p.rng.integers(2)) + p.rng.normal(0, 0.22)
        half = p.rng.uniform(11, 17)
        x, y = (v + p.rng.normal(0, 6.5) for v in middle)
        dx, dy = half * float(np.cos(angle)), half * float(np.sin(angle))
        rods = np.minimum(rods, p.segment((x - dx, y - dy), (x + dx, y + dy), width=1.9))
    p.lay(0.9 * coverage(np.maximum(rods, p.body + 2), 0.9), ROD)


def _cup_like_blast(p: CellPainter) -> None:
    radius = p.rng.uniform(38, 45)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.9, 1)), BLUE)
    size = radius * p.rng.uniform(0.86, 0.92)
    nucleus = p.ellipse(-1, 0, size, size * p.rng.uniform(0.94, 1))
    p.paint_nucleus(nucleus, clumping=0.1, density=0.6)
    cup = p.ellipse(size * 0.36, p.rng.uniform(-3, 3), size * p.rng.uniform(0.42, 0.5))
    p.lay(0.9 * coverage(cup, 1.5), (0.85, 0.82, 0.90))


def _abnormal_eosinophil(p: CellPainter) -> None:
    radius = p.rng.uniform(41, 47)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.9, 1)), PINK)
    size = radius * p.rng.uniform(0.44, 0.5)
    nucleus = p.ellipse(-radius * 0.38, 0, size, size * p.rng.uniform(1.05, 1.25))
    p.paint_nucleus(nucleus, clumping=0.5, density=0.5)
    p.paint_granules(130, radius_px=2.0, colour=EOSIN, opacity=0.7)
    num_dark = int(p.rng.integers(30, 44))
    p.paint_granules(num_dark, radius_px=3.6, colour=(0.34, 0.16, 0.42), opacity=0.95, over=True)


def _auer_rod_blast(p: CellPainter) -> None:
    radius = p.rng.uniform(42, 48)
    p.paint_body(p.ellipse(0, 0, radius, radius * p.rng.uniform(0.88, 1)), BLUE)
    size = radius * p.rng.uniform(0.60, 0.66)
    nucleus = p.ellipse(-radius * 0.32, 0, size * 0.86, size)
    p.paint_nucleus(nucleus, clumping=0.1, density=0.3)
    p.paint_nucleoli(int(p.rng.integers(1, 3)))
    hof = p.ellipse(radius * 0.42, 0, radius * 0.3, radius * 0.5)
    p.lay(0.55 * coverage(np.maximum(hof, -p.nucleus), 5.0), (0.86, 0.78, 0.86))
    half, tilt = radius * p.rng.uniform(0.54, 0.64), p.rng.uniform(-0.2, 0.2)
    x, y = radius * p.rng.uniform(0.42, 0.5), p.rng.uniform(-4, 4)
    dx, dy = half * float(np.sin(tilt)), half * float(np.cos(tilt))
    rod = p.segment((x - dx, y - dy), (x + dx, y + dy), width=p.rng.uniform(3.4, 4.4))
    p.lay(0.95 * coverage(np.maximum(rod, p.body + 2), 0.9), ROD)
    num_giant = int(p.rng.integers(6, 11))
    p.paint_granules(num_giant, radius_px=4.2, colour=SALMON, opacity=0.9)


PAINTERS: MappingProxyType[str, Callable[[CellPainter], None]] = MappingProxyType(
    {
        NEUTROPHIL: _neutrophil,
        LYMPHOCYTE: _lymphocyte,
        MONOCYTE: _monocyte,
        EOSINOPHIL: _eosinophil,
        MYELOBLAST: _myeloblast,
        FAGGOT_CELL: _faggot_cell,
        CUP_LIKE_BLAST: _cup_like_blast,
        ABNORMAL_EOSINOPHIL: _abnormal_eosinophil,
        AUER_ROD_BLAST: _auer_rod_blast,
    }
)
