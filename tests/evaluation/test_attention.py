import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.attention import (
    AnnotatedCells,
    Attention,
    attention_by_type,
    read_attention,
)
from aml_mil.evaluation.kinds import KINDS, kind_of, read_kinds, shipped_kinds

TYPES = ("myeloblast", "monocyte", "", "ambiguous")
KIND_OF = {"myeloblast": "malignant", "monocyte": "healthy", "ambiguous": "other"}


def draw(
    *, advantage: float, num_patients: int = 30, seed: int = 0
) -> tuple[Attention, dict[str, AnnotatedCells]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(8, 30, size=num_patients)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    scores = rng.normal(0, 0.5, size=(3, offsets[-1], 2))
    ids = tuple(f"p{i}" for i in range(num_patients))
    annotated = {}
    for i, patient_id in enumerate(ids):
        kinds = rng.integers(len(TYPES), size=sizes[i])
        scores[:, offsets[i] : offsets[i + 1], i % 2] += advantage * (kinds == 0)
        annotated[patient_id] = AnnotatedCells(label=i % 2, cell_types=[TYPES[k] for k in kinds])
    attention = Attention(patient_ids=ids, offsets=offsets, scores=scores.astype(np.float16))
    return attention, annotated


def test_attention_is_the_softmax_over_the_patients_cells_averaged_over_seeds() -> None:
    attention, _ = draw(advantage=1.0)
    cells = slice(attention.offsets[4], attention.offsets[5])
    expected = softmax(attention.scores[:, cells].astype(float), axis=1).mean(axis=0)
    np.testing.assert_allclose(attention.of_patient("p4"), expected)
    np.testing.assert_allclose(attention.of_patient("p4").sum(axis=0), 1)


def test_cells_with_an_advantage_come_first_and_the_gap_is_clear() -> None:
    found = attention_by_type(*draw(advantage=1.5), KIND_OF, num_resamples=300)
    assert found.types[0].cell_type == "myeloblast"
    assert found.types[0].kind == "malignant"
    assert found.gap.low > 0.5
    assert found.gap.estimate == pytest.approx(found.malignant.estimate - found.healthy.estimate)


def test_without_an_advantage_the_gap_holds_zero() -> None:
    found = attention_by_type(*draw(advantage=0.0, seed=1), KIND_OF, num_resamples=300)
    assert 0 in found.gap


def test_the_mean_is_over_annotated_cells_relative_to_the_patients_average_cell() -> None:
    attention, annotated = draw(advantage=1.0)
    values = []
    for patient_id, cells in annotated.items():
        weights = attention.of_patient(patient_id)[:, cells.label]
        values += [
            w * len(weights)
            for w, t in zip(weights, cells.cell_types, strict=True)
            if t == "monocyte"
        ]
    found = attention_by_type(attention, annotated, KIND_OF, num_resamples=50)
    monocytes = next(t for t in found.types if t.cell_type == "monocyte")
    assert monocytes.attention.estimate == pytest.approx(np.mean(values))
    assert monocytes.num_cells == len(values)


def test_a_type_that_one_patient_has_gets_no_interval() -> None:
    attention, annotated = draw(advantage=1.0)
    first = annotated["p0"]
    annotated["p0"] = AnnotatedCells(label=first.label, cell_types=["plasma cell"] * 8)
    annotated["p0"].cell_types.extend([""] * (len(first.cell_types) - 8))
    found = attention_by_type(attention, annotated, KIND_OF, num_resamples=300)
    rare = next(t for t in found.types if t.cell_type == "plasma cell")
    assert rare.num_patients == 1
    assert rare.attention.estimate is not None
    assert (rare.attention.low, rare.attention.high) == (None, None)


def test_without_malignant_cells_there_is_no_gap() -> None:
    found = attention_by_type(*draw(advantage=1.0), {"monocyte": "healthy"}, num_resamples=50)
    assert found.gap.estimate is None
    assert found.healthy.estimate is not None


def test_cells_of_another_store_are_refused() -> None:
    attention, annotated = draw(advantage=1.0)
    annotated["p3"] = AnnotatedCells(label=0, cell_types=["monocyte"])
    with pytest.raises(EvaluationError, match="cells of patient p3, the store 1"):
        attention_by_type(attention, annotated, KIND_OF)


def test_without_any_cell_type_it_says_what_is_missing() -> None:
    attention, _ = draw(advantage=1.0)
    with pytest.raises(EvaluationError, match="needs annotations"):
        attention_by_type(attention, {}, KIND_OF)


def test_a_run_without_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="expected a run's attention"):
        read_attention(tmp_path / "attention.npz")


def test_the_shipped_tables_know_every_published_type_in_any_case() -> None:
    kinds = shipped_kinds()
    # Six types stand in both tables.
    assert len(kinds) == 25 + 18 - 6
    assert set(kinds.values()) == set(KINDS)
    assert kind_of("Promyelocyte", kinds) == kind_of("promyelocyte", kinds) == "malignant"
    assert kind_of("Monocyte", kinds) == "healthy"
    assert kind_of("something else", kinds) is None


def test_shipped_tables_do_not_contradict_each_other() -> None:
    folder = Path(__file__).parents[2] / "aml_mil" / "evaluation" / "cell_types"
    seen: dict[str, str] = {}
    counts = {}
    for path in sorted(folder.glob("*.csv")):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        counts[path.name] = len(rows)
        for row in rows:
            name = row["cell_type"].lower()
            assert seen.setdefault(name, row["kind"]) == row["kind"], name
    assert counts == {"mll.csv": 25, "cellavision.csv": 18}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell_type,sort\nx,healthy\n", "columns cell_type, kind"),
        ("cell_type,kind\nx,good\n", "expected malignant, healthy, other as the kind of 'x'"),
        ("cell_type,kind\nx,healthy\nX,other\n", "stands twice"),
    ],
)
def test_a_table_of_types_with_a_fault_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "types.csv"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_kinds(path)
