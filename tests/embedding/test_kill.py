"""Killed at any moment, and begun again."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from stores import open_store
from tests.embedding.drawing import bag_bytes, draw_patient, run, write_table

REPOSITORY = Path(__file__).parents[2]
NUM_PATIENTS, CELLS_EACH, BATCH_SIZE = 8, 15, 6
STEPS, LONGEST_S = 4, 0.02


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def larger_cohort(tmp_path):
    labels = {f"P{number}": ("APL", "AML")[number % 2] for number in range(NUM_PATIENTS)}
    for patient_id, label in labels.items():
        draw_patient(tmp_path / "cohort", patient_id, label, CELLS_EACH)
    write_table(tmp_path / "cohort", labels)
    return tmp_path / "cohort"


def embed_and_die(cohort_dir: Path, store_path: Path, moments: random.Random) -> bool:
    moment = (str(moments.randrange(STEPS)), str(moments.uniform(0, LONGEST_S)))
    command = [sys.executable, "-m", "tests.embedding.embed_and_die", cohort_dir, store_path]
    done = subprocess.run([*command, *moment], cwd=REPOSITORY, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize(
    "num_kills", [2, pytest.param(5, marks=pytest.mark.slow)], ids=["twice", "five times"]
)
def test_killed_runs_end_in_the_bytes_of_an_undisturbed_one(
    larger_cohort, store_path, tmp_path, encoder, num_kills
):
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    run(larger_cohort, undisturbed, encoder)

    hits = sum(embed_and_die(larger_cohort, store_path, moments) for _ in range(num_kills))
    with torch_threads(2):  # the store's own number is followed
        run(larger_cohort, store_path, encoder)

    assert bag_bytes(store_path) == bag_bytes(undisturbed), f"seed {seed}"
    with open_store(store_path) as store:
        encoded = sum(event.get("images", 0) for event in store.read_log())
    total = NUM_PATIENTS * CELLS_EACH
    assert hits, f"seed {seed}"
    assert total <= encoded <= total + hits * (2 * CELLS_EACH + BATCH_SIZE), f"seed {seed}"
