"""Errors are said in one line, with what to do."""

import errno

from aml_mil.errors import AmlMilError
from cli.failure import one_line


def test_a_full_disk_says_that_the_run_continues() -> None:
    line = one_line(OSError(errno.ENOSPC, "No space left on device", "/store/bags"))
    assert line.startswith("/store/bags: the disk is full")
    assert "continues" in line


def test_notes_are_joined_and_line_breaks_removed() -> None:
    error = AmlMilError("expected a,\ngot b")
    error.add_note("while writing\nbag A")
    assert one_line(error) == "expected a, got b; while writing bag A"


def test_an_error_without_a_message_is_named() -> None:
    assert one_line(PermissionError()) == "PermissionError"
