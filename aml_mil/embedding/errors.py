"""Errors of embedding a cohort."""

from aml_mil.errors import AmlMilError


class EmbedError(AmlMilError):
    """A cohort cannot be embedded as asked."""


class NumericsMismatchError(EmbedError):
    """The arithmetic asked for is not the one the store was begun with."""


class EngineError(EmbedError):
    """An engine is not there, or cannot run an encoder as asked."""


class DamagedCellError(EmbedError):
    """A damaged file was met, and the run was to stop at the first."""


class PatientsFailedError(EmbedError):
    """Patients that could not be embedded; all others are in the store."""
