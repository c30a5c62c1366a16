import pytest

from aml_mil.ssl import checks
from aml_mil.ssl.checks import check_pool, find_idle
from aml_mil.ssl.errors import PretrainError
from aml_mil.ssl.method import RunLength
from aml_mil.ssl.pool import ImagePool
from tests.ssl.runs import small_config

LENGTH = RunLength(epochs=3, steps_per_epoch=3)


def test_a_warm_up_longer_than_the_run_is_told() -> None:
    assert find_idle(small_config("simclr", warmup=3), LENGTH) == []
    [found] = find_idle(small_config("simclr", warmup=20), LENGTH)
    assert "warm-up of 20 epochs is longer than the run of 3" in found


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({"queue_length": 16, "queue_start": 0}, False),  # full after 2 of 9 steps
        ({"queue_length": 64, "queue_start": 0}, False),  # full after 8
        ({"queue_length": 65, "queue_start": 0}, True),
        ({"queue_length": 16, "queue_start": 3}, True),
        ({"queue_length": 0, "queue_start": 3}, False),
        ({"queue_length": 65, "queue_start": 0, "prototypes": 8}, False),  # the batch is enough
    ],
)
def test_a_queue_that_never_takes_part_is_told(changes: dict[str, float], is_told: bool) -> None:
    found = find_idle(small_config("swav", **changes), LENGTH)
    assert len(found) == is_told
    assert all("the queue never takes part" in text for text in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue_length": 16}, None),
        ({"queue_length": 17}, "expected a queue that 2 processes can share evenly, got 17"),
        ({"batch_size": 7}, "expected a batch size that 2 processes can share evenly, got 7"),
    ],
)
def test_what_processes_cannot_share_evenly_is_refused(
    pool: ImagePool, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], message: str | None
) -> None:
    check_pool(pool, small_config("swav", **changes))
    monkeypatch.setattr(checks, "num_ranks", lambda: 2)
    if message is None:
        check_pool(pool, small_config("swav", **changes))
        return
    with pytest.raises(PretrainError, match=message):
        check_pool(pool, small_config("swav", **changes))
