"""Errors of patient-level pre-training."""

from aml_mil.errors import AmlMilError


class GigaError(AmlMilError):
    """Patient embeddings cannot be learnt, made or probed as asked; the message says what to do."""


class TooFewPatientsError(GigaError):
    """There are too few patients to contrast, or too few cells to draw from."""


class CoordsMissingError(GigaError):
    """The sparse encoder needs a place for every cell."""


class GigaFileError(GigaError):
    """A file is no encoder of patients, or one of other features."""
