import numpy as np
import pytest
import torch

from aml_mil.ssl.knn import knn_accuracy, knn_predict, paired_interval


def test_it_equals_a_loop_over_cells() -> None:
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
        nearest = sorted(known, reverse=True)[:6]
        votes = dict.fromkeys(types, (0, 0.0))
        for cosine, name in nearest:
            votes[name] = (votes[name][0] + 1, votes[name][1] + cosine)
        expected.append(max(votes, key=lambda name: votes[name]))
    predicted = knn_predict(
        query, bank, types, query_patients=askers, bank_patients=owners, num_neighbours=6
    )
    assert predicted == expected


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


def test_the_interval_encloses_the_difference_and_is_zero_for_equals() -> None:
    generator = np.random.default_rng(0)
    patients = [f"p{i % 12}" for i in range(600)]
    correct, baseline = generator.random(600) < 0.8, generator.random(600) < 0.6
    low, high = paired_interval(correct, baseline, patients, num_draws=500, seed=0)
    assert 0 < low < correct.mean() - baseline.mean() < high < 0.4
    assert paired_interval(correct, correct, patients, num_draws=50, seed=0) == (0.0, 0.0)
