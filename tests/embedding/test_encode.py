"""The pass over a stream of cells: what is under way at once, and what becomes of failures."""

import threading
import time
from collections import deque
from contextlib import closing

import numpy as np
import pytest

from aml_mil.cohort import Cell, Patient
from aml_mil.embedding import encode
from aml_mil.embedding.cells import LoadedCell
from aml_mil.embedding.encode import MAX_UNDER_WAY, EncodingPass

SIZE_PX, BATCH_SIZE = 4, 2


def patient_of(patient_id, num_cells, tmp_path):
    cells = tuple(
        Cell(instance_id=f"{i}.png", path=tmp_path / f"{i}.png") for i in range(num_cells)
    )
    return Patient(patient_id=patient_id, label="AML", cells=cells)


def loaded_cells(patient):
    for number, cell in enumerate(patient.cells):
        image = np.full((SIZE_PX, SIZE_PX, 3), number, dtype=np.uint8)
        colour = np.zeros(6, dtype=np.float32)
        yield LoadedCell(patient=patient, cell=cell, sha256="0" * 64, image=image, colour=colour)


def make_pass(patients, encode, committed):
    return EncodingPass(
        patients,
        prepare=lambda: 1,
        encode=encode,
        new_images=lambda: np.zeros((BATCH_SIZE, SIZE_PX, SIZE_PX, 3), dtype=np.uint8),
        batch_size=BATCH_SIZE,
        dtype="float32",
        strict=False,
        only_types=False,
        commit=committed.append,
        log=lambda event: None,
    )


def first_pixels(images, patient_ids):
    return images[:, 0, 0, :1].astype(np.float32)[None]


def test_cells_keep_their_features_though_the_memory_of_batches_is_used_again(tmp_path):
    patients = [patient_of(name, n, tmp_path) for name, n in (("A", 5), ("B", 8))]
    committed, shown = [], {}

    def encode(images, patient_ids):
        shown[images.ctypes.data] = images
        assert not images[len(patient_ids) :].any(), "black where there is no cell"
        return first_pixels(images, patient_ids)

    pass_ = make_pass(patients, encode, committed)
    with closing(pass_):
        pass_.begin()
        for patient in patients:
            for loaded in loaded_cells(patient):
                pass_.take(loaded)
        pass_.end()
    assert [bag.bag_id for bag in committed] == ["A", "B"]
    for bag in committed:
        np.testing.assert_array_equal(bag.features[:, 0], np.arange(len(bag.instance_ids)))
    assert len(shown) == MAX_UNDER_WAY + 1, "seven batches"


def test_filling_goes_on_while_a_batch_is_encoded_up_to_a_bound(tmp_path):
    (patient,) = [patient_of("A", 20, tmp_path)]
    may_go_on, num_taken = threading.Event(), []

    def encode(images, patient_ids):
        may_go_on.wait(10)
        return first_pixels(images, patient_ids)

    committed = []
    pass_ = make_pass([patient], encode, committed)

    def fill():
        for loaded in loaded_cells(patient):
            pass_.take(loaded)
            num_taken.append(1)
        pass_.end()

    with closing(pass_):
        pass_.begin()
        filling = threading.Thread(target=fill)
        filling.start()
        most = (MAX_UNDER_WAY + 1) * BATCH_SIZE - 1
        deadline = time.monotonic() + 10
        while len(num_taken) < most and time.monotonic() < deadline:
            time.sleep(0.01)
        filling.join(0.2)  # it would go on here
        assert len(num_taken) == most, "two batches wait, and the last cell of the third"
        may_go_on.set()
        filling.join(10)
    assert len(committed[0].instance_ids) == 20


def run_to_end(pass_, patients):
    """Whether a bag was left with the writer after each cell."""
    with closing(pass_):
        pass_.begin()
        for patient in patients:
            for loaded in loaded_cells(patient):
                pass_.take(loaded)
                yield pass_._written is not None
        pass_.end()


def test_batches_are_filled_and_encoded_while_a_bag_is_written(tmp_path):
    patients = [patient_of(name, 10, tmp_path) for name in ("A", "B")]
    last_of_b = threading.Event()

    def encode(images, patient_ids):
        if (images[:, 0, 0, 0] == 9).any() and "B" in patient_ids:
            last_of_b.set()
        return first_pixels(images, patient_ids)

    class Slow(list):
        def append(self, bag):
            assert last_of_b.wait(10), "encoding waits for the writer"
            super().append(bag)

    committed = Slow()
    deque(run_to_end(make_pass(patients, encode, committed), patients))
    assert [bag.bag_id for bag in committed] == ["A", "B"]


@pytest.mark.parametrize("most_bytes", [0, 10**9])
def test_one_bag_is_written_at_a_time_and_a_large_one_before_all_else(
    tmp_path, monkeypatch, most_bytes
):
    monkeypatch.setattr(encode, "MAX_WAITING_BYTES", most_bytes)
    patients = [patient_of(name, 4, tmp_path) for name in "ABCDEF"]
    writing, threads = threading.Lock(), set()

    class Alone(list):
        def append(self, bag):
            assert writing.acquire(blocking=False), "two at a time"
            time.sleep(0.01)
            threads.add(threading.current_thread().name)
            super().append(bag)
            writing.release()

    committed = Alone()
    pass_ = make_pass(patients, first_pixels, committed)
    left = list(run_to_end(pass_, patients))
    assert any(left) == (most_bytes > 0)
    assert [bag.bag_id for bag in committed] == list("ABCDEF")
    assert list(pass_.done.committed) == list("ABCDEF")
    assert threads == {"writer_0"}


def test_what_the_writer_raises_stops_the_pass(tmp_path):
    patients = [patient_of(name, 4, tmp_path) for name in "ABCDEF"]

    class Full(list):
        def append(self, bag):
            if bag.bag_id == "C":
                raise OSError(28, "No space left on device")
            super().append(bag)

    committed = Full()
    with pytest.raises(OSError, match="No space left"):
        deque(run_to_end(make_pass(patients, first_pixels, committed), patients))
    assert [bag.bag_id for bag in committed] == ["A", "B"]


@pytest.mark.parametrize("failing", [1, 3, 5])
def test_what_the_encoder_raises_stops_the_pass_and_nothing_of_it_is_committed(tmp_path, failing):
    patient = patient_of("A", 10, tmp_path)
    calls, committed = [], []

    def encode(images, patient_ids):
        calls.append(1)
        if len(calls) == failing:
            raise RuntimeError("the device is gone")
        return first_pixels(images, patient_ids)

    pass_ = make_pass([patient], encode, committed)

    def work():
        for loaded in loaded_cells(patient):
            pass_.take(loaded)
        pass_.end()

    with closing(pass_):
        pass_.begin()
        with pytest.raises(RuntimeError, match="the device is gone"):
            work()
    assert not committed
