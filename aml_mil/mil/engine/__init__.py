"""Train and apply all heads of a run as one batched program."""

from aml_mil.mil.engine.inference import BagOutputs, Evaluation
from aml_mil.mil.engine.network import StackedHeads
from aml_mil.mil.engine.resident import BagRows, ResidentBags
from aml_mil.mil.engine.scaling import FeatureScaling
from aml_mil.mil.engine.training import (
    EpochRecord,
    Replicate,
    TrainedHead,
    stack_parameters,
    train_heads,
)
from aml_mil.mil.engine.workspace import Workspace

__all__ = [
    "BagOutputs",
    "BagRows",
    "EpochRecord",
    "Evaluation",
    "FeatureScaling",
    "Replicate",
    "ResidentBags",
    "StackedHeads",
    "TrainedHead",
    "Workspace",
    "stack_parameters",
    "train_heads",
]
