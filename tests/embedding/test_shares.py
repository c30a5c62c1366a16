"""Patients shared out among processes."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort import Cell, Patient
from aml_mil.embedding.outcome import Checked, Encoded, Outcome, combine
from aml_mil.embedding.records import FailedPatient
from aml_mil.embedding.shares import gather, own_share, share_out, tell_all
from stores import open_store
from tests.embedding.drawing import bag_bytes, draw_patient, run, write_table
from tests.embedding.embed_in_ranks import LEFT_ALONE

REPOSITORY = Path(__file__).parents[2]
NUM_PATIENTS = 10
NUM_KILLS = 10
NUM_CELLS = sum(range(5, 5 + NUM_PATIENTS))


def make_patients(counts) -> list[Patient]:
    cell = Cell(instance_id="a.png", path=Path("a.png"))
    return [
        Patient(patient_id=f"P{number}", label="A", cells=(cell,) * int(count))
        for number, count in enumerate(counts)
    ]


def loads(shares) -> list[int]:
    return [sum(len(patient.cells) for patient in share) for share in shares]


@pytest.mark.parametrize("num_shares", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("seed", range(5))
def test_shares_are_within_two_percent_where_no_patient_exceeds_one(num_shares, seed):
    rng = np.random.default_rng(seed)
    counts = np.append(rng.integers(99, 501, 189), [2000, 1500])
    found = loads(share_out(make_patients(counts), num_shares=num_shares))
    assert max(found) <= 1.02 * counts.sum() / num_shares
    assert sum(found) == counts.sum()


def test_the_longest_comes_first_and_shares_keep_the_order_of_the_cohort():
    patients = make_patients([1, 9, 3, 3, 2])
    shares = share_out(patients, num_shares=2)
    assert [[p.patient_id for p in share] for share in shares] == [["P1"], ["P0", "P2", "P3", "P4"]]


def test_more_processes_than_patients_leave_some_idle():
    assert [len(share) for share in share_out(make_patients([5]), num_shares=3)] == [1, 0, 0]


def test_a_single_process_has_all_and_talks_to_nobody():
    patients = make_patients([3, 1])
    assert own_share(patients) == tuple(patients)
    value = object()
    assert tell_all(value) is value
    assert gather(value) == [value]


def test_what_processes_did_adds_up():
    def outcome(number: int) -> Outcome:
        failed = [FailedPatient(patient_id=f"F{number}", reason="")]
        done = Encoded(committed={f"P{number}": 5}, failed=failed, seconds=float(number))
        return Outcome(embedded=done, checked=Checked(cells={f"C{number}": 2}), refreshed=Encoded())

    total = combine([outcome(1), outcome(3), outcome(2)])
    assert total.embedded.committed == {"P1": 5, "P2": 5, "P3": 5}
    assert total.embedded.seconds == 3.0, "they worked at the same time"
    assert len(total.embedded.failed) == 3
    assert total.checked.cells == {"C1": 2, "C2": 2, "C3": 2}


@pytest.fixture(scope="module")
def cohort_of_ten(tmp_path_factory):
    root = tmp_path_factory.mktemp("ranks") / "cohort"
    labels = {f"P{number}": ("APL", "AML")[number % 2] for number in range(NUM_PATIENTS)}
    for number, (patient_id, label) in enumerate(labels.items()):
        draw_patient(root, patient_id, label, 5 + number)
    write_table(root, labels)
    return root


def run_in_ranks(*runs: dict) -> list[list[int]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.embedding.embed_in_ranks"],
        input=json.dumps(runs),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    return json.loads(done.stdout.splitlines()[-1])


def embed_alone(cohort, path, encoder) -> dict[str, bytes]:
    run(cohort, path, encoder)
    return bag_bytes(path)


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_store_of_several_processes_equals_that_of_one(
    cohort_of_ten, store_path, tmp_path, encoder, num_ranks
):
    job = {"cohort": str(cohort_of_ten), "store": str(store_path), "num_ranks": num_ranks}
    assert run_in_ranks(job) == [[0] * num_ranks]
    alone = embed_alone(cohort_of_ten, tmp_path / f"alone{store_path.suffix}", encoder)
    assert bag_bytes(store_path) == alone
    assert json.loads(Path(f"{store_path}.summary").read_text()) == {
        "patients": NUM_PATIENTS,
        "cells": NUM_CELLS,
        "skipped": 0,
        "processes": num_ranks,
    }
    with open_store(store_path) as store:
        events = store.read_log()
    starts = [event for event in events if event["event"] == "run_start"]
    assert sorted(event["process"] for event in starts) == list(range(num_ranks))
    assert sum(event["event"] == "run_end" for event in events) == 1


@pytest.mark.slow
def test_a_killed_process_loses_its_unfinished_bags_only(
    cohort_of_ten, store_path, tmp_path, encoder
):
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    paths = [tmp_path / f"{number}{store_path.suffix}" for number in range(NUM_KILLS)]
    runs = [{"cohort": str(cohort_of_ten), "store": str(path), "num_ranks": 2} for path in paths]
    victims = [moments.randrange(2) for _ in runs]
    kills = [
        {"victim": v, "kill_at": moments.randrange(5), "after_s": moments.uniform(0, 0.02)}
        for v in victims
    ]
    cut = run_in_ranks(*({**run, **kill} for run, kill in zip(runs, kills, strict=True)))
    assert cut == [[(LEFT_ALONE, -signal.SIGKILL)[rank == v] for rank in (0, 1)] for v in victims]
    for path, victim in zip(paths, victims, strict=True):
        error = Path(f"{path}.{1 - victim}.error").read_text()
        assert "another process of this run has ended early" in error
    num_kept = {len(list(path.glob("bags/*/bag.json"))) for path in paths}
    assert min(num_kept) < NUM_PATIENTS, f"seed {seed}: nothing was left to do"

    assert run_in_ranks(*runs) == [[0, 0]] * NUM_KILLS, f"seed {seed}"
    alone = embed_alone(cohort_of_ten, tmp_path / f"alone{store_path.suffix}", encoder)
    for path in paths:
        assert bag_bytes(path) == alone, f"seed {seed}"
        with open_store(path) as store:
            bags = [event["bag_id"] for event in store.read_log() if event["event"] == "bag"]
        assert len(bags) == len(set(bags)), f"seed {seed}: one was made twice"


@pytest.mark.slow
def test_torchrun_runs_the_command_and_one_process_speaks(cohort_of_ten, tmp_path, encoder):
    store = tmp_path / "torchrun.zarr"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    encode = ["--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32"]
    settings = ["--device", "cpu", "--precision", "fp32", "--batch-size", "6", "--json"]
    done = subprocess.run(
        [*launch, "-m", "cli", "embed", cohort_of_ten, *encode, "--out", store, *settings],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    document = json.loads(done.stdout)
    assert (document["patients"], document["cells"]) == (NUM_PATIENTS, NUM_CELLS)
    assert document["processes"] == 2
    alone = embed_alone(cohort_of_ten, tmp_path / "alone.zarr", encoder)
    assert bag_bytes(store) == alone
