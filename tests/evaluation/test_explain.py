import numpy as np
import pytest
import torch

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.explain import Explanation, predict_single_cells
from aml_mil.mil.head import HeadShape, initial_head

SHAPE = HeadShape(feature_shape=(6,), num_classes=2, widths=(5, 5, 5, 4))
EXPLANATION = Explanation(
    patient_id="p",
    classes=("A", "B"),
    instance_ids=("a.png", "b.png", "c.png", "d.png"),
    cell_types=("", "blast", "", ""),
    attention=np.array([[0.1, 0.4], [0.6, 0.1], [0.1, 0.3], [0.2, 0.2]]),
    alone=np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]),
)


def test_a_cell_alone_is_predicted_as_a_bag_of_one() -> None:
    heads = [initial_head(SHAPE, seed=s) for s in (1, 2)]
    features = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float16)
    found = predict_single_cells(heads, features)
    cell = torch.from_numpy(features[4:5]).float()
    expected = torch.stack([head(cell).logits.softmax(dim=0) for head in heads]).mean(dim=0)
    np.testing.assert_allclose(found[4], expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_cells_are_ranked_by_attention_relative_to_the_average_cell() -> None:
    most = EXPLANATION.most_attended("A", 2)
    assert [c.instance_id for c in most] == ["b.png", "d.png"]
    assert most[0].attention == pytest.approx(2.4)
    assert most[0].cell_type == "blast"
    assert most[0].alone == 0.2
    assert [c.instance_id for c in EXPLANATION.least_attended("B", 1)] == ["b.png"]


def test_the_deconvolution_counts_the_cells_called_each_class() -> None:
    assert EXPLANATION.deconvolution == {"A": 0.75, "B": 0.25}


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(EvaluationError, match="classes A, B, got 'C'"):
        EXPLANATION.most_attended("C")
