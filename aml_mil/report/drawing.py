"""What all figures share: colours, sizes, and how they are saved. Nothing is ever shown."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
DPI = 200
# Okabe & Ito 2008: told apart with every common colour blindness, https://jfly.uni-koeln.de/color
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#B8A800",
    "#000000",
)
GREY = "#9A9A9A"
KIND_COLOURS: Mapping[str, str] = MappingProxyType(
    {"malignant": "#D55E00", "healthy": "#0072B2", "other": GREY}
)
STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "aml-mil",
        "pdf.fonttype": 42,
    }
)


@contextmanager
def styled() -> Iterator[None]:
    """Draw or save in the house style; what the user set for other figures is left alone."""
    with rc_context(dict(STYLE)):
        yield


def panels(
    count: int, *, width: float, height: float, max_columns: int = 3
) -> tuple[Figure, Sequence[Axes]]:
    """Make a figure with so many panels in a grid.

    Args:
        count: Panels, at least 1.
        width: Of a panel, in inches.
        height: Of a panel, in inches.
        max_columns: Panels beside each other at most.

    Returns:
        The figure, and its panels in reading order.
    """
    rows = -(-count // max_columns)
    columns = -(-count // rows)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    return figure, axes


def save_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, ...]:
    """Save a figure as PNG, SVG and PDF.

    Args:
        figure: To be saved.
        folder: Made if missing.
        name: Of the files, without a suffix.

    Returns:
        The files.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    with styled():
        for suffix in FORMATS:
            path = target / f"{name}.{suffix}"
            # Without the date, the same results give the same file.
            metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[suffix]
            figure.savefig(path, dpi=DPI, metadata=metadata)
            paths.append(path)
    return tuple(paths)
