"""The page of results and the bundle, of a small study whose stores are made by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from aml_mil.cohort.folds import roles_of, write_folds
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.bootstrap import Interval
from aml_mil.evaluation.run import open_run as evaluated_run
from aml_mil.mil import fit, fit_encoders, open_run
from benchmarks.robustness import main as robustness
from benchmarks.study_budget import Budget, Heads
from benchmarks.study_bundle import (
    Candidate,
    choose_bundle,
    expected_page,
    find_candidates,
    write_bundle,
)
from benchmarks.study_choice import choose, validation_scores
from benchmarks.study_layout import RANDOM, Study
from benchmarks.study_outcome import neutral
from benchmarks.study_results import write_results
from benchmarks.study_tables import say_difference
from tests.mil.cases import small_config, write_store

FOLDS = {f"P{i:02d}": i // 3 % 3 for i in range(30)}
BUDGET = Budget(num_folds=3, ssl_folds=(0,), heads=(Heads(name="paper", flags="--epochs 3"),))
CONFIG = small_config(num_folds=3, seeds=2, epochs=3)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Fits of random, supervised and SimCLR, on few folds, against other stains, of one view."""
    out = tmp_path_factory.mktemp("places") / "study"
    out.mkdir()
    weights = out / "encoders" / "supervised.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights of the supervised encoder")
    made = Study(
        cohort=out.parent / "the-cohort",
        annotated=out.parent / "the-cells",
        out=out,
        bundle=Path(f"{out}-bundle"),
        budget=BUDGET,
        has_cell_types=True,
        about={
            "command": f"python -m benchmarks.study {out.parent / 'the-cohort'} --out {out} "
            f"--bundle {out}-bundle",
            "budget": "small",
            "patients": {"class 0": 10, "class 1": 10, "class 2": 10},
            "num_files": 900,
        },
    )
    made.save()
    write_folds(made.folds, FOLDS)
    for kind, names in (
        ("", (RANDOM, "supervised", "simclr-0", "swav-0", "dino-0")),
        ("stain", (RANDOM, "supervised")),
        ("colour", (RANDOM, "supervised")),
        ("one-view", ("supervised",)),
    ):
        for seed, name in enumerate(names):
            (out / "stores" / kind).mkdir(parents=True, exist_ok=True)
            own = (
                {}
                if name == RANDOM
                else {"weights": str(weights), "weights_sha256": f"{seed}" * 64}
            )
            write_store(out / "stores" / kind / f"{name}.zarr", seed=seed, **own)
    for kind, stores, encoders, folds in (
        ("paper", "", made.of_all_folds, FOLDS),
        ("paper-few-folds", "", (*made.given, *made.self_supervised), [roles_of(FOLDS, 0)]),
        ("stain", "stain", made.given, FOLDS),
        ("colour", "colour", made.given, FOLDS),
    ):
        paths = [made.store(encoder, stores) for encoder in encoders]
        list(fit_encoders(paths, out_dir=out / "runs" / kind, config=CONFIG, folds=folds))
    one_view = made.store(made.supervised, "one-view")
    list(fit(one_view, out_dir=made.run(made.supervised, "one-view"), config=CONFIG, folds=FOLDS))
    robustness(
        [
            f"{made.run(made.random, 'paper')}={made.store(made.random)}",
            f"{made.run(made.supervised, 'paper')}={made.store(made.supervised, 'one-view')}",
            f"{made.run(made.supervised, 'stain')}={made.store(made.supervised, 'stain')}",
            *("--json", str(out / "robustness.json")),
        ]
    )
    steps = {
        f"pretrain-{name}": {
            "command": f"python -m cli pretrain {made.cohort} --out {out / name}",
            "rc": 0,
            "seconds": 90.0,
            "cpu_s": 170.0,
            "attempts": 1,
            "hardware": "a machine, 2 cores; torch 2",
        }
        for name in ("simclr-0", "swav-0", "dino-0", "supervised")
    }
    (out / "steps.json").write_text(json.dumps(steps))
    row = {"accuracy": 0.6, "balanced": 0.2, "gain": 0.05, "low": 0.01, "high": 0.09}
    row |= {"by_patient": 0.5, "by_patient_gain": 0.04}
    row |= {"by_patient_low": -0.02, "by_patient_high": 0.08}
    (out / "knn.json").write_text(json.dumps([{"features": "simclr-0", **row}]))
    record = {"setting": "chosen by validation", "accuracy": 0.86, "sd": 0.01, "se": 0.02}
    (out / "mil_benchmarks.json").write_text(json.dumps({"musk1": [record]}))
    (out / "remarks.md").write_text("Longer training did not help.\n")
    return made


@pytest.fixture(scope="module")
def page(study):
    return write_results(study.out).read_text()


def tables_in(page):
    """The tables of the page by the heading above them: header, then rows, as lists of cells."""
    found, heading, lines = {}, "", []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            lines.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if lines:
            found.setdefault(heading, []).append([lines[0], *lines[2:]])
            lines = []
        heading = line.lstrip("# ") if line.startswith("#") else heading
    return found


def test_colour_and_the_random_encoder_are_rows_of_every_table_of_models(page):
    tables = [t for of in tables_in(page).values() for t in of if "ROC-AUC" in t[0]]
    assert len(tables) == 6  # all folds, each class, few folds, one view, normalised, colour views
    for header, *rows in tables:
        names = [row[header.index("model")] for row in rows]
        assert {"colour", "random encoder"} <= set(names)
        for base in ("colour", "random encoder"):
            place = header.index(f"ROC-AUC − {base}")
            for name, row in zip(names, rows, strict=True):
                if name != base:
                    assert re.fullmatch(r"[+-]\d\.\d\d, [+-]\d\.\d\d to [+-]\d\.\d\d|–", row[place])


def test_the_self_supervised_are_compared_on_their_fold_with_times(page):
    ((header, *rows),) = tables_in(page)["Self-supervised encoders, fold 0"]
    times = {row[0]: row[header.index("training, minutes")] for row in rows}
    assert times["SimCLR"] == times["supervised"] == "1.5"
    assert set(times) == {"SimCLR", "SwAV", "DINO", "supervised", "colour", "random encoder"}
    assert "SimCLR" not in {row[0] for row in tables_in(page)["Table 1: all encoders"][0]}


def test_the_page_names_no_place_of_this_machine(page, study):
    assert str(study.out.parent) not in page
    assert "python -m benchmarks.study COHORT --out STUDY --bundle BUNDLE\n" in page
    assert "a machine, 2 cores" in page


def test_a_relative_folder_is_not_taken_for_the_module(study):
    relative = replace(study, out=Path("study"), cohort=Path("cells/own"), bundle=Path("study-m"))
    command = "python -m benchmarks.study cells/own --out study/x study-m benchmarks.study_bundle"
    assert neutral(relative, command) == (
        "python -m benchmarks.study COHORT --out STUDY/x BUNDLE benchmarks.study_bundle"
    )


def test_what_was_written_by_hand_outlives_the_next_writing(page, study):
    assert "## What did not work\n\nLonger training did not help." in page
    assert write_results(study.out).read_text() == page


def test_what_was_not_run_is_left_out(page):
    for heading in ("Vectors against maps", "Label fractions", "Stress test"):
        assert heading not in page
    assert ".892" in page
    assert "Attention by cell type of supervised is left out" in page  # the toy cells have no type


def test_neighbours_are_compared_by_cells_and_by_patients(page):
    ((header, row),) = tables_in(page)["Cell types by nearest neighbours, fold 0"]
    assert header[1:5] == [
        "of all cells",
        "− random encoder",
        "mean of patients",
        "− random encoder",
    ]
    by_cell, by_patient = "+0.050, +0.010 to +0.090", "+0.040, -0.020 to +0.080"
    assert row == ["SimCLR", "0.600", by_cell, "0.500", by_patient, "0.200"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.05, 0.11, "**not shown**: +0.03 (-0.05 to +0.11)"),
        (0.01, 0.05, "SimCLR **adds to** colour: +0.03 (+0.01 to +0.05)"),
        (-0.09, -0.01, "SimCLR **is worse than** colour: +0.03"),
    ],
)
def test_the_words_follow_from_the_interval(low, high, said):
    assert said in say_difference("SimCLR", Interval(estimate=0.03, low=low, high=high), "colour")


def test_the_choice_looks_at_validation_patients_only(study, tmp_path):
    encoder, heads = choose(study)
    assert (encoder.name, heads.name) == ("supervised", "paper")
    scores = validation_scores(study.run(encoder, "paper"))
    assert len(scores.patient_ids) == 30
    assert {p: int(k) for p, k in zip(scores.patient_ids, scores.folds, strict=True)} == {
        p: (fold - 1) % 3 for p, fold in FOLDS.items()
    }


def test_the_model_is_delivered_that_holds_best_when_the_stain_changes():
    steady, better = (
        Candidate(name=name, run=Path(name), row={"plain_averaged": plain, "shifted_averaged": s})
        for name, plain, s in (("steady", 0.8, 0.79), ("better", 0.95, 0.7))
    )
    assert choose_bundle([better, steady]) is steady


def test_what_is_tried_against_another_stain_may_be_delivered(study):
    assert {each.name for each in find_candidates(study)} == {
        "supervised, paper heads",
        "supervised, paper heads, normalised",
    }  # the random encoder has learnt nothing, and runs that were not measured stay out


@pytest.mark.parametrize(("changed", "fall"), [(0.7, 0.1), (0.8, 0.0), (0.9, 0.0)])
def test_what_is_expected_is_the_test_patients_figure_less_what_another_stain_takes(
    study, changed, fall
):
    found = find_candidates(study)[0]
    row = {**found.row, "plain_averaged": 0.8, "shifted_averaged": changed}
    page = expected_page(study, [found], replace(found, row=row))
    tested = assess(evaluated_run(found.run).scores).macro["roc_auc"]
    values = (tested.averaged, tested.low, tested.high)
    expected, low, high = (f"{max(0.0, value - fall):.2f}" for value in values)
    assert f"**ROC-AUC on later patients: {expected} ({low} to {high}).**" in page


def test_the_page_shows_who_holds_when_the_stain_changes(page):
    ((header, *rows),) = tables_in(page)["Validation patients stained otherwise"]
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    same, other = found["stain/supervised"], found["paper/supervised"]
    assert same["change"].startswith("+0.00 ")  # its own store stood in
    assert same["as they are"] == same["changed"]
    assert other["as they are"] != other["changed"]
    assert found["paper/random encoder"]["− random encoder"].startswith("+0.00 ")
    assert found["colour"]["− colour"].startswith("+0.00 ")


def test_a_bundle_holds_heads_encoder_and_what_to_expect(study, tmp_path):
    chosen = write_bundle(study, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "encoder.safetensors").read_bytes().startswith(b"weights of the")
    head = open_run(tmp_path / "bundle").head(2, 1).state_dict()
    assert all(
        (head[k] == v).all() for k, v in open_run(chosen.run).head(2, 1).state_dict().items()
    )
    text = (tmp_path / "bundle" / "EXPECTED.md").read_text()
    assert re.search(r"ROC-AUC on later patients: [01]\.\d\d \([01]\.\d\d to [01]\.\d\d\)", text)
    assert str(study.out.parent) not in text
