"""A probe: the same folds and labels for all, whole numbers of patients, and no peeking."""

import csv
import json
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from aml_mil.cohort.folds import make_folds, roles_of
from aml_mil.evaluation.floors import patient_colours
from aml_mil.evaluation.patients import PatientScores
from aml_mil.giga.errors import GigaError
from aml_mil.giga.fractions import draw_labels, role_places
from aml_mil.giga.label_curves import MethodScores, curve_points, figures_of_draws
from aml_mil.giga.probe import Probe
from aml_mil.giga.probe_config import ProbeConfig
from aml_mil.giga.probe_files import refuse_existing, write_probe
from aml_mil.mil.errors import LeakageError
from tests.giga.cases import bags_of, finish, small_run, toy_patients, write_patients

SETTINGS = {
    "num_folds": 3,
    "percents": (5, 25, 50, 100),
    "draws": 3,
    "giga_draws": 4,
    "mil_epochs": 2,
    "resamples": 50,
    "device": "cpu",
}
CLASSES = ("AML", "APL")


def cohort(num=40, num_folds=5):
    labels = {f"P{i:02d}": CLASSES[i % 4 == 0] for i in range(num)}
    folds = make_folds(labels, num_folds=num_folds, seed=0)
    roles = [roles_of(folds, fold) for fold in range(num_folds)]
    targets = np.array([CLASSES.index(labels[p]) for p in sorted(labels)])
    return targets, role_places(roles, sorted(labels)), roles


def labels_of(percents, *, num_draws=10, seed=0, num=40):
    targets, places, _ = cohort(num)
    return (
        targets,
        places,
        draw_labels(targets, CLASSES, places, percents=percents, num_draws=num_draws, seed=seed),
    )


def test_a_share_is_taken_of_every_class_and_of_both_roles():
    targets, places, drawn = labels_of((20, 50))
    assert len(drawn.by_percent[20]) == 5 * 10
    for percent, draws in drawn.by_percent.items():
        for draw in draws:
            train, validation = places[draw.fold]
            assert set(draw.train) <= set(train)
            assert set(draw.validation) <= set(validation)
            pool = np.concatenate(places[draw.fold])
            for target in (0, 1):
                exact = percent / 100 * (targets[pool] == target).sum()
                assert abs((targets[draw.known] == target).sum() - exact) <= 0.5
                assert (targets[draw.train] == target).any()
                assert (targets[draw.validation] == target).any()


def test_draws_are_fixed_differ_and_are_nested():
    _, _, first = labels_of((25, 50))
    _, _, second = labels_of((25, 50))
    for draws, again in zip(first.by_percent.values(), second.by_percent.values(), strict=True):
        for a, b in zip(draws, again, strict=True):
            np.testing.assert_array_equal(a.known, b.known)
    _, _, other = labels_of((25,), seed=1)
    pairs = zip(first.by_percent[25], other.by_percent[25], strict=True)
    assert any(set(a.known) != set(b.known) for a, b in pairs)
    for small, large in zip(first.by_percent[25], first.by_percent[50], strict=True):
        assert set(small.known) < set(large.known)
    assert len({tuple(d.known) for d in first.by_percent[25] if d.fold == 0}) > 5


def draws_of_one_class(num_train, num_validation, percents):
    places = np.split(np.arange(num_train + num_validation), [num_train])
    targets = np.zeros(num_train + num_validation, dtype=np.int64)
    drawn = draw_labels(
        targets, ("AML",), [tuple(places)], percents=percents, num_draws=1, seed=0
    ).by_percent
    return {percent: draws[0] for percent, draws in drawn.items()}


@pytest.mark.parametrize(
    ("num_train", "num_validation"),
    [(3, 2), (7, 2), (24, 8), (25, 9), (31, 11), (50, 17), (90, 30), (5, 40), (40, 0), (0, 40)],
)
def test_a_larger_share_holds_every_smaller_one_in_each_role(num_train, num_validation):
    drawn = draws_of_one_class(num_train, num_validation, range(1, 101))
    assert drawn
    for (percent, small), (_, large) in pairwise(drawn.items()):
        assert set(small.train) <= set(large.train), percent
        assert set(small.validation) <= set(large.validation), percent


@pytest.mark.parametrize(
    ("num_train", "num_validation", "expected"),
    [
        (7, 2, {25: (1, 1), 50: (4, 1), 100: (7, 2)}),
        (25, 9, {5: (1, 1), 10: (2, 1), 25: (7, 2), 50: (12, 5), 100: (25, 9)}),
        (31, 11, {5: (1, 1), 10: (3, 1), 25: (8, 3), 50: (15, 6), 100: (31, 11)}),
        (90, 30, {5: (4, 2), 10: (9, 3), 25: (22, 8), 50: (45, 15), 100: (90, 30)}),
        (5, 40, {5: (1, 1), 10: (1, 4), 25: (1, 10), 50: (3, 20), 100: (5, 40)}),
    ],
)
def test_the_default_shares_round_each_role_on_its_own(num_train, num_validation, expected):
    drawn = draws_of_one_class(num_train, num_validation, ProbeConfig().percents)
    assert {p: (len(d.train), len(d.validation)) for p, d in drawn.items()} == expected


def test_all_labels_are_one_draw_of_everybody():
    _, places, drawn = labels_of((100,))
    assert [(d.fold, d.draw) for d in drawn.by_percent[100]] == [(k, 0) for k in range(5)]
    for draw in drawn.by_percent[100]:
        np.testing.assert_array_equal(draw.train, np.sort(places[draw.fold][0]))
        np.testing.assert_array_equal(draw.validation, np.sort(places[draw.fold][1]))


def test_a_share_that_leaves_fewer_than_two_of_a_class_is_skipped_and_named():
    _, _, drawn = labels_of((5, 10, 25, 100))
    assert list(drawn.by_percent) == [25, 100]
    assert list(drawn.skipped) == [5, 10]
    assert "10% of the 8 patients of APL" in drawn.skipped[10]
    assert "are 1, fewer than 2" in drawn.skipped[10]


def scores_of(probabilities, targets, folds):
    return PatientScores(
        classes=CLASSES,
        patient_ids=tuple(f"P{i:02d}" for i in range(len(targets))),
        targets=targets,
        folds=folds,
        seeds=tuple(range(len(probabilities))),
        probabilities=probabilities,
    )


def test_a_figure_is_scikit_learns_per_fold_and_the_curve_is_the_mean_over_draws():
    rng = np.random.default_rng(0)
    targets, folds = np.arange(30) % 2, np.arange(30) // 2 % 3
    first = rng.uniform(size=(4, 30)) * 0.7 + 0.3 * targets
    probabilities = np.stack([1 - first, first], axis=2)
    found = MethodScores(
        method="m", percent=25, num_labels=7.0, scores=scores_of(probabilities, targets, folds)
    )
    rows = list(figures_of_draws(found))
    for row, p in zip(rows, first, strict=True):
        own = [folds == k for k in range(3)]
        auc = [roc_auc_score(targets[rows], p[rows]) for rows in own]
        f1 = [f1_score(targets[rows], p[rows] > 0.5, average="macro") for rows in own]
        assert row.roc_auc == pytest.approx(np.mean(auc))
        assert row.f1 == pytest.approx(np.mean(f1))
    points = {p.metric: p for p in curve_points(found, num_resamples=300, seed=0)}
    values = [row.roc_auc for row in rows]
    assert points["roc_auc"].mean == pytest.approx(np.mean(values))
    assert points["roc_auc"].sd == pytest.approx(np.std(values, ddof=1))
    assert points["roc_auc"].low < points["roc_auc"].mean < points["roc_auc"].high


def test_an_interval_is_not_that_of_draws_put_together():
    """Two opposite draws would make a third that knows everything, or nothing."""
    targets, folds = np.arange(24) % 2, np.arange(24) // 2 % 3
    good = np.where(targets, 0.9, 0.2)
    both = np.stack([good, 1 - good])
    found = MethodScores(
        method="m",
        percent=50,
        num_labels=9.0,
        scores=scores_of(np.stack([1 - both, both], axis=2), targets, folds),
    )
    point = next(p for p in curve_points(found, num_resamples=50, seed=0) if p.metric == "roc_auc")
    assert point.mean == pytest.approx(0.5)
    assert point.sd == pytest.approx(np.sqrt(0.5))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_patients(tmp_path_factory.mktemp("toy") / "toy.zarr", num=24)


@pytest.fixture(scope="module")
def folds(store):
    bags = bags_of(store)
    return make_folds(dict(zip(bags.patient_ids, bags.labels, strict=True)), num_folds=3, seed=0)


@pytest.fixture(scope="module")
def pattern(store, folds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("giga")
    for fold in range(3):
        bags = bags_of(store, roles_of(folds, fold).train)
        finish(small_run(bags, folder / f"g{fold}.safetensors", batch_size=8))
    return str(folder / "g{fold}.safetensors")


def run(store, *, folds=None, giga=None, allow=False, **changes):
    probe = Probe(
        store,
        giga=giga,
        config=ProbeConfig(**SETTINGS | changes),
        folds=folds,
        allow_transductive=allow,
    )
    steps = [record.steps_done for record in probe]
    assert steps[-1] == probe.num_steps
    assert steps == sorted(steps)
    return probe.result


@pytest.fixture(scope="module")
def result(store, folds, pattern):
    return run(store, folds=folds, giga=pattern)


def test_every_method_is_measured_on_every_share_that_is_left(result):
    assert list(result.skipped) == [5]
    counts = {}
    for row in result.draws:
        counts[row.method, row.fraction] = counts.get((row.method, row.fraction), 0) + 1
    methods = ("giga", "giga_random", "mean_pooling", "colour", "fit_mil")
    assert counts == {(m, f): 1 if f == 1 else 3 for m in methods for f in (0.25, 0.5, 1)}
    assert result.leakage == "none"
    known = {row.fraction: row.num_labels for row in result.draws}
    assert known == {0.25: 4.0, 0.5: 8.0, 1: 16.0}


def test_what_is_separable_is_found_and_what_is_not_is_not(result):
    points = {(p.method, p.fraction): p for p in result.points if p.metric == "roc_auc"}
    assert points["mean_pooling", 1].mean > 0.9
    assert points["giga", 1].mean > 0.9
    assert points["colour", 1].mean < 0.75


def test_all_labels_on_colour_are_what_a_logistic_regression_by_hand_gives(store, folds, result):
    bags = bags_of(store)
    colours = patient_colours(bags.colour, bags.offsets)
    ids = np.array(bags.patient_ids)
    truth = np.array([label == "APL" for label in bags.labels])
    aucs = []
    for fold in range(3):
        roles = roles_of(folds, fold)
        known = np.isin(ids, roles.train + roles.validation)
        scaled = StandardScaler().fit(colours[known]).transform(colours)
        model = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
        model.fit(scaled[known], truth[known])
        aucs.append(roc_auc_score(truth[~known], model.predict_proba(scaled[~known])[:, 1]))
    row = next(r for r in result.draws if r.method == "colour" and r.fraction == 1)
    assert row.roc_auc == pytest.approx(np.mean(aucs))


def test_labels_of_test_patients_cannot_reach_what_is_predicted_for_them(store, folds, tmp_path):
    """With the folds fixed, other labels in fold 0 change no prediction for fold 0."""
    bags = bags_of(store)
    tested = [p for p in bags.patient_ids if folds[p] == 0]
    shuffled = dict(zip(bags.patient_ids, bags.labels, strict=True))
    shuffled |= dict(zip(tested, [shuffled[p] for p in tested][::-1], strict=True))
    assert [shuffled[p] for p in tested] != [bags.labels[bags.patient_ids.index(p)] for p in tested]
    table = bags.table.view(3, bags.num_cells, -1).numpy()
    other = write_patients(
        tmp_path / "other.zarr",
        [table[:, first:last] for first, last in pairwise(bags.offsets)],
        labels=[shuffled[p] for p in bags.patient_ids],
    )
    found = []
    for path in (store, other):
        probe = Probe(
            path,
            giga=None,
            config=ProbeConfig(**SETTINGS | {"mil": False}),
            folds=folds,
            allow_transductive=False,
        )
        seen = []
        probe._summarise = seen.extend  # type: ignore[method-assign]
        list(probe)
        found.append(seen)
    rows = np.array([folds[p] == 0 for p in bags.patient_ids])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(
            ours.scores.probabilities[:, rows], theirs.scores.probabilities[:, rows]
        )


def test_an_encoder_of_patients_that_has_seen_test_patients_stops_the_probe(store, folds, tmp_path):
    out = tmp_path / "all.safetensors"
    finish(small_run(bags_of(store), out, epochs=1))
    with pytest.raises(LeakageError, match="--allow-transductive"):
        run(store, folds=folds, giga=str(out))
    allowed = run(store, folds=folds, giga=str(out), allow=True, mil=False, percents=(100,))
    assert allowed.leakage == "transductive"


def test_without_a_file_the_other_methods_stand_alone(store, folds):
    found = run(store, folds=folds, mil=False, percents=(100,))
    assert {row.method for row in found.draws} == {"giga_random", "mean_pooling", "colour"}


def test_two_probes_of_the_same_settings_are_equal(store, folds, pattern, result):
    again = run(store, folds=folds, giga=pattern)
    assert again.draws == result.draws
    assert again.points == result.points


def test_tables_metrics_and_figure_say_the_same(result, tmp_path):
    write_probe(tmp_path / "out", result, about={"store": "a.zarr"})
    with (tmp_path / "out/probe.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.draws)
    assert list(rows[0])[:4] == ["method", "fraction", "num_labels", "draw"]
    assert float(rows[0]["roc_auc"]) == result.draws[0].roc_auc
    document = json.loads((tmp_path / "out/probe.json").read_text())
    assert document["store"] == "a.zarr"
    assert len(document["curves"]) == len(result.points) == 3 * 15
    assert document["skipped"]["5"].startswith("5% of")
    assert (tmp_path / "out/label_fractions.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "out/label_fractions.svg").read_text()
    assert "Giga-SSL" in svg
    assert "fit-mil" in svg
    with pytest.raises(GigaError, match="exists already"):
        refuse_existing(tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percents": (0, 50)}, "from 1 to 100"),
        ({"percents": (50, 25)}, "rising shares"),
        ({"draws": 0}, "draws: expected 1 or more"),
        ({"mil_lr": 0.0}, "lr: expected a positive number"),
        ({"num_folds": 2}, "num_folds: expected 3 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ProbeConfig(**settings)
