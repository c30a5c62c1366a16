import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from aml_mil.evaluation import EvaluationError, cell_map
from aml_mil.evaluation.cell_map import (
    NamedCells,
    map_cells,
    read_named_cells,
)
from stores import open_store
from tests.evaluation.cohorts import Fitted


def draw(*, separation: float, num_cells: int = 120) -> NamedCells:
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=num_cells)
    features = rng.normal(size=(num_cells, 8))
    features[np.arange(num_cells), kinds] += separation
    return NamedCells(
        features=features.astype(np.float32),
        cell_types=tuple("ABC"[k] for k in kinds),
        patient_ids=tuple(f"p{i % 6}" for i in range(num_cells)),
    )


@pytest.fixture
def without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first two features for the plane: UMAP compiles for half a minute."""
    monkeypatch.setattr(cell_map, "lay_out", lambda features, seed: features[:, :2].astype(float))


@pytest.mark.usefixtures("without_umap")
def test_types_are_named_by_the_nearest_cells_of_other_patients() -> None:
    cells = draw(separation=1.5)
    unit = cells.features / np.linalg.norm(cells.features, axis=1, keepdims=True)
    types, owners = np.array(cells.cell_types), np.array(cells.patient_ids)
    right = []
    for i in range(len(unit)):
        others = np.flatnonzero(owners != owners[i])
        nearest = others[np.argsort(-(unit[others] @ unit[i]))[:20]]
        cosines = {name: unit[nearest[types[nearest] == name]] @ unit[i] for name in "ABC"}
        called = max("ABC", key=lambda name: (len(cosines[name]), cosines[name].sum()))
        right.append(called == types[i])
    found = map_cells(cells, name="x")
    assert found.knn_accuracy == pytest.approx(np.mean(right))
    expected = [np.mean(np.array(right)[types == name]) for name in "ABC"]
    assert found.knn_balanced_accuracy == pytest.approx(np.mean(expected))


@pytest.mark.usefixtures("without_umap")
def test_separate_types_score_higher() -> None:
    apart, mixed = (map_cells(draw(separation=s), name="x") for s in (6.0, 0.0))
    assert apart.knn_accuracy > 0.95
    assert mixed.knn_balanced_accuracy < 0.5
    assert apart.silhouette > 0.4 > mixed.silhouette
    cells = draw(separation=6.0)
    expected = silhouette_score(cells.features, cells.cell_types, metric="cosine")
    assert apart.silhouette == pytest.approx(expected)


def test_cells_without_a_type_are_left_out(tinted: Fitted) -> None:
    with open_store(tinted.store) as store:
        cells = read_named_cells(store, ["P00", "P01"])
        assert len(cells.cell_types) == 8
        np.testing.assert_array_equal(
            cells.features[4:], store.read("P01").features.astype(np.float32)
        )
        with pytest.raises(EvaluationError, match="for two of the 1 patients asked for, got 1"):
            read_named_cells(store, ["P00"])
        assert len(read_named_cells(store, ["P00", "P01"], max_cells=4).cell_types) == 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_map() -> None:
    cells = draw(separation=3.0)
    first, second = (map_cells(cells, name="x", seed=4).points for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    assert first.shape == (120, 2)
