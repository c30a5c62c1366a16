import numpy as np
import pytest

from aml_mil.evaluation.explain import Explanation
from aml_mil.report.cell_gallery import gallery_figure

CELLS = ("a", "b", "c")
EXPLANATION = Explanation(
    patient_id="p",
    classes=("A", "B"),
    instance_ids=CELLS,
    cell_types=("blast", "", "monocyte"),
    attention=np.array([[0.1, 0.5], [0.6, 0.3], [0.3, 0.2]]),
    alone=np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]),
)
IMAGES = {cell: np.full((8, 8, 3), 10 * i, np.uint8) for i, cell in enumerate(CELLS)}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_row_shows_the_cells_of_its_class_in_their_order(count: int) -> None:
    figure = gallery_figure(EXPLANATION, IMAGES, count=count)
    shown = [ax.images[0].get_array()[0, 0, 0] // 10 for ax in figure.axes]
    orders = ((1, 2, 0), (0, 2, 1), (0, 1, 2), (2, 1, 0))  # A most, A least, B most, B least
    assert shown == [cell for order in orders for cell in order[:count]]
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == [
        "A\nmost", "A\nleast", "B\nmost", "B\nleast"
    ]  # fmt: skip
    assert figure.axes[0].get_title() == "1.8x, p 0.20"
    assert "A 67%, B 33%" in figure.get_suptitle()
