"""The ordered map over threads."""

import threading
import time

import pytest

from aml_mil.embedding.parallel import map_ahead


def test_results_come_in_order_though_early_items_take_longest():
    def slow_at_first(number):
        time.sleep(0.02 if number < 3 else 0)
        return -number

    found = list(map_ahead(slow_at_first, range(20), workers=4, lookahead=8))
    assert found == [-number for number in range(20)]


def test_no_more_items_are_drawn_than_the_lookahead_allows():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    results = map_ahead(abs, items(), workers=2, lookahead=5)
    for taken in range(1, 11):
        next(results)
        assert len(drawn) <= taken + 5
    results.close()
    assert len(drawn) < 20


def test_an_error_is_raised_at_its_turn():
    def fail_at_two(number):
        return 1 / (2 - number)

    results = map_ahead(fail_at_two, range(5), workers=2, lookahead=4)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_among_items_that_a_thread_takes_together_is_raised_at_its_turn():
    def fail_at_twenty(number):
        return 1 / (20 - number)

    results = map_ahead(fail_at_twenty, range(200), workers=1, lookahead=32)
    found = [next(results) for _ in range(20)]
    assert found == [1 / (20 - number) for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_early_leaves_no_thread():
    results = map_ahead(abs, range(50), workers=3, lookahead=10)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cells")]
