"""Bars over records of progress."""

import pytest

from cli.progress import results_of, with_bar


def test_a_bar_that_needs_less_than_was_thought_ends_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(with_bar([1, 2, 3], total=10, unit="epoch", description="fit")) == [1, 2, 3]
    assert "100%" in capsys.readouterr().err.splitlines()[-1].rpartition("\r")[2]


def test_a_bar_that_is_given_up_stays_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    records = with_bar([1, 2, 3], total=10, unit="epoch", description="fit")
    assert [next(records), next(records)] == [1, 2]  # type: ignore[call-overload]
    records.close()  # type: ignore[attr-defined]
    assert "/10" in capsys.readouterr().err


def test_results_come_out_of_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert results_of([1, "a", 2, "b"], str, total=2, unit="step", description="do") == ["a", "b"]
    assert "2/2" in capsys.readouterr().err
