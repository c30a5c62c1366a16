"""Which errors a user can act on, and how they are said in one line."""

import errno

from aml_mil.errors import AmlMilError
from stores import StoreError


class CommandError(Exception):
    """A command found what it was to look for, and that is a failure; the message says what."""


ERRORS_WITH_A_CLEAR_LINE = (CommandError, AmlMilError, StoreError, OSError)

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again, it continues",
    errno.EDQUOT: "the quota is used up; free some space and run the same command again",
    errno.EACCES: "permission denied; choose a folder you can read and write",
    errno.EPERM: "operation not permitted; choose a folder you can read and write",
    errno.EROFS: "the file system is read-only; choose another folder",
}


def one_line(error: BaseException) -> str:
    """Say an error in one line: what it is, where, and the notes added on its way up.

    Args:
        error: Anything in `ERRORS_WITH_A_CLEAR_LINE`.

    Returns:
        The message without line breaks.
    """
    if isinstance(error, OSError) and error.errno in _ADVICE:
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{_ADVICE[error.errno]}"
    else:
        message = str(error) or type(error).__name__
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join(" ".join(part.split()) for part in [message, *notes])
