"""The cells that counted most and least for each class, as pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from aml_mil.evaluation.explain import CellOpinion, Explanation
from aml_mil.report.drawing import styled

CELL_INCHES = 1.05
MARGIN_INCHES = 0.9


@styled()
def gallery_figure(
    explanation: Explanation, images: Mapping[str, npt.NDArray[np.uint8]], *, count: int = 8
) -> Figure:
    """Draw a patient's most and least attended cells, two rows a class.

    Args:
        explanation: Of the patient.
        images: [S, S, 3] RGB by cell; a cell without an image is left out.
        count: Cells in a row.
    """
    rows: list[tuple[str, Sequence[CellOpinion]]] = []
    for label in explanation.classes:
        rows.append((f"{label}\nmost", explanation.most_attended(label, count)))
        rows.append((f"{label}\nleast", explanation.least_attended(label, count)))
    columns = max(len(cells) for _, cells in rows)
    size = (columns * CELL_INCHES + MARGIN_INCHES, len(rows) * (CELL_INCHES + 0.32) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{explanation.patient_id}: {_shares(explanation)}", fontsize=10)
    for row, (name, cells) in enumerate(rows):
        for column in range(columns):
            ax = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if column == 0:
                ax.set_ylabel(name, fontsize=8)
            if column < len(cells) and cells[column].instance_id in images:
                cell = cells[column]
                ax.imshow(images[cell.instance_id])
                ax.set_title(f"{cell.attention:.1f}x, p {cell.alone:.2f}", fontsize=7, pad=2)
                ax.set_xlabel(cell.cell_type.replace("_", " "), fontsize=6, labelpad=1)
    figure.supxlabel(
        "x: attention, 1 = average cell; p: probability of the class for a patient with this cell "
        "only",
        fontsize=7,
    )
    return figure


def _shares(explanation: Explanation) -> str:
    return "cells that alone are called " + ", ".join(
        f"{label} {share:.0%}" for label, share in explanation.deconvolution.items()
    )
