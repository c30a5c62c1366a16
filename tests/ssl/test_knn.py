import pytest
import torch

from aml_mil.neighbours import predict_by_neighbours
from aml_mil.ssl.knn import knn_accuracy


@pytest.mark.parametrize("num_neighbours", [1, 6, 20])
def test_it_equals_a_loop_over_cells(num_neighbours: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, bank = (torch.randn(n, 5, generator=generator) for n in (15, 40))
    types = [f"t{i % 3}" for i in range(40)]
    owners, askers = [f"p{i % 7}" for i in range(40)], [f"p{i % 9}" for i in range(15)]
    expected = []
    for q, asker in zip(query, askers, strict=True):
        known = [
            (float(q @ b / q.norm() / b.norm()), name)
            for b, name, owner in zip(bank, types, owners, strict=True)
            if owner != asker
        ]
        nearest = sorted(known, reverse=True)[:num_neighbours]
        votes = dict.fromkeys(types, (0, 0.0))
        for cosine, name in nearest:
            votes[name] = (votes[name][0] + 1, votes[name][1] + cosine)
        expected.append(max(votes, key=lambda name: votes[name]))
    predicted = predict_by_neighbours(
        query,
        bank,
        types,
        query_patients=askers,
        bank_patients=owners,
        num_neighbours=num_neighbours,
    )
    assert predicted == expected


def vote(cosines: list[tuple[str, float]]) -> str:
    """Let cells at so many cosines from one vote."""
    bank = torch.tensor([[c, (1 - c * c) ** 0.5] for _, c in cosines], dtype=torch.float64)
    (found,) = predict_by_neighbours(
        torch.tensor([[1.0, 0.0]]),
        bank,
        [name for name, _ in cosines],
        query_patients=["p"],
        bank_patients=["q"] * len(cosines),
    )
    return found


def test_among_types_of_equal_votes_the_nearer_in_sum_wins() -> None:
    # The nearest cell is an a; the b are nearer in sum.
    assert vote([("a", 0.9), ("b", 0.8), ("b", 0.7), ("a", 0.1)]) == "b"
    assert vote([("a", 0.9), ("b", 0.8), ("a", 0.1)]) == "a"


def test_a_small_difference_decides_between_many_votes() -> None:
    votes = [(name, 0.5) for name in "ab" * 9] + [("a", 0.5), ("b", 0.505)]
    assert vote(votes) == "b"
    assert vote([("ba"["ab".index(name)], cosine) for name, cosine in votes]) == "a"


def test_a_patient_s_own_cells_have_no_vote() -> None:
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    types, patients = ["a", "a", "b", "b"], ["p", "p", "q", "q"]
    assert knn_accuracy(features, types, patients) == 0.0
    assert knn_accuracy(features, types, ["p", "q", "p", "q"]) == 1.0


def test_cells_of_one_type_next_to_each_other_are_recognised() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(4)
    rows = torch.arange(120) % 4
    features = centres[rows] + 0.05 * torch.randn(120, 4, generator=generator)
    types = [f"type {int(i)}" for i in rows]
    patients = [f"patient {i // 20}" for i in range(120)]
    assert knn_accuracy(features, types, patients) == 1.0


def test_cells_without_a_type_take_no_part() -> None:
    features = torch.tensor([[1.0, 0], [1, 0], [1, 0.1], [0, 1], [0, 1]])
    types, patients = ["a", "a", "", "b", "b"], ["p", "q", "r", "p", "q"]
    without = [0, 1, 3, 4]
    assert knn_accuracy(features, types, patients) == knn_accuracy(
        features[without], [types[i] for i in without], [patients[i] for i in without]
    )


@pytest.mark.parametrize(
    ("types", "patients"), [(["a", "a"], ["p", "q"]), (["a", "b"], ["p", "p"]), (["", ""], "pq")]
)
def test_nothing_is_said_where_there_is_nothing_to_tell_apart(
    types: list[str], patients: list[str]
) -> None:
    assert knn_accuracy(torch.eye(2), types, patients) is None
