"""Processes that read and decode, where threads would wait for each other."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort import Cell, Patient
from aml_mil.embedding import EmbedConfig, EmbedError, cells, config
from aml_mil.embedding.cells import MAX_THREADS, load_cells
from aml_mil.embedding.readers import IS_POSSIBLE, Readers
from tests.embedding.drawing import SIZE_PX, bag_bytes, damage, draw_cell, run

REPOSITORY = Path(__file__).parents[2]
NUM_CELLS = 60
DAMAGED, MISSING = 7, 41

pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="threads read here")


@pytest.fixture
def pairs(tmp_path):
    """Cells of 40 px under odd names; one damaged, one not there."""
    names = [f"{number} ü\udcff\n{{}}.png" for number in range(NUM_CELLS)]
    for number, name in enumerate(names):
        draw_cell(tmp_path / f"{number}.png", size_px=40)
        (tmp_path / f"{number}.png").rename(tmp_path / name)
    damage(tmp_path / names[DAMAGED])
    (tmp_path / names[MISSING]).unlink()
    found = tuple(Cell(instance_id=name, path=tmp_path / name) for name in names)
    return [(Patient(patient_id="A", label="B", cells=found), cell) for cell in found]


def load(pairs, *, workers, lookahead):
    """All that is told of the cells, each image copied while it is there."""
    settings = {"image_size_px": SIZE_PX, "workers": workers, "lookahead": lookahead}
    return [
        (
            found.cell,
            found.sha256,
            found.image if found.image is None else found.image.tobytes(),
            found.colour if found.colour is None else found.colour.tobytes(),
            found.damage,
            found.io_error,
        )
        for found in load_cells(pairs, **settings)
    ]


@pytest.mark.parametrize("lookahead", [1, 11, 1_000])
def test_processes_find_what_threads_find(pairs, lookahead):
    by_threads = load(pairs, workers=2, lookahead=lookahead)
    assert load(pairs, workers=MAX_THREADS + 1, lookahead=lookahead) == by_threads
    assert [bool(image) for _, _, image, *_ in by_threads].count(False) == 2
    assert by_threads[DAMAGED][4]
    assert by_threads[MISSING][5] == "No such file or directory"


def test_few_workers_are_threads(pairs, monkeypatch):
    monkeypatch.setattr(cells, "Readers", None)
    assert len(load(pairs, workers=MAX_THREADS, lookahead=8)) == NUM_CELLS


@pytest.mark.parametrize(
    ("asked", "cores", "expected"), [(None, 2, 2), (None, 64, 16), (30, 2, 30), (1, 64, 1)]
)
def test_there_is_a_worker_a_core_up_to_what_the_run_can_take(monkeypatch, asked, cores, expected):
    monkeypatch.setattr(config, "count_own_cores", lambda: cores)
    assert EmbedConfig(workers=asked).num_workers == expected


def test_a_store_is_the_same_whoever_reads(cohort_dir, store_path, tmp_path, encoder):
    run(cohort_dir, store_path, encoder, workers=MAX_THREADS + 1)
    threads = tmp_path / f"threads{store_path.suffix}"
    run(cohort_dir, threads, encoder, workers=1)
    assert bag_bytes(store_path) == bag_bytes(threads)


def test_a_process_that_ends_is_an_error_that_says_what_to_do(pairs):
    with Readers(1, slots=1, cells=1, image_size_px=SIZE_PX) as readers:
        path = pairs[0][1].path
        assert not readers.read(0, [path])[0].damage
        [process] = readers._readers
        process.kill()
        process.wait()
        for _ in range(2):
            with pytest.raises(EmbedError, match=r"has ended \(exit code -9\).*fewer --workers"):
                readers.read(0, [path])


def test_stopping_early_ends_the_processes(pairs, monkeypatch):
    made = []

    class Kept(Readers):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            made.append(self)

    monkeypatch.setattr(cells, "Readers", Kept)
    stream = load_cells(pairs, image_size_px=SIZE_PX, workers=MAX_THREADS + 1, lookahead=20)
    with closing(stream):
        next(stream)
    assert [process.returncode for process in made[0]._readers] == [-signal.SIGKILL] * 5


def test_readers_end_with_a_process_that_is_killed(pairs):
    script = (
        "import os, signal\n"
        "from aml_mil.embedding.readers import Readers\n"
        f"readers = Readers(2, slots=1, cells=1, image_size_px={SIZE_PX})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    left, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stderr=ours, start_new_session=True
    )
    os.close(ours)
    assert process.wait() == -signal.SIGKILL
    with os.fdopen(left) as errors:
        assert errors.read() == "", "ends when the last who could write has ended, in silence"


def test_images_lie_in_memory_that_both_see(pairs):
    with Readers(1, slots=2, cells=3, image_size_px=SIZE_PX) as readers:
        paths = [cell.path for _, cell in pairs[:3]]
        first, again = readers.read(0, paths), readers.read(1, paths)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            assert not np.shares_memory(a.image, b.image)
        readers.read(0, [cell.path for _, cell in pairs[3:6]])
        assert any((a.image != b.image).any() for a, b in zip(first, again, strict=True))
