"""What can be wrong with a fit: the stores, the folds, the encoder, the run folder."""

from aml_mil.errors import AmlMilError


class FitError(AmlMilError):
    """Heads cannot be trained or applied as asked."""


class BagsError(FitError):
    """The bags of a store cannot be trained on."""


class StoresDifferError(FitError):
    """The stores of a run's folds do not belong together."""


class LeakageError(FitError):
    """An encoder has seen patients it is to be tested on."""


class RunExistsError(FitError):
    """The run folder holds another run."""


class RunError(FitError):
    """The folder holds no finished run."""


class DivergedError(FitError):
    """A loss is not finite."""
