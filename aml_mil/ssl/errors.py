"""Errors of pre-training."""

from aml_mil.errors import AmlMilError


class PretrainError(AmlMilError):
    """Pre-training cannot begin or continue as asked; the message says what to do."""


class TooFewImagesError(PretrainError):
    """There are fewer images than one batch holds."""


class LabelsMissingError(PretrainError):
    """Supervised training found no labels, or only one class."""


class ResumeError(PretrainError):
    """A saved state is missing, damaged, or belongs to another run."""


class DivergedError(PretrainError):
    """The loss is not a number any more; the last good checkpoint is kept."""
