"""What can be wrong with predictions that are to be evaluated or compared."""

from aml_mil.errors import AmlMilError


class EvaluationError(AmlMilError):
    """Predictions cannot be evaluated, or two runs cannot be compared."""
