"""Train and apply all heads of a run as one batched program."""

from aml_mil.mil.engine.inference import BagOutputs, Evaluation
from aml_mil.mil.engine.network import StackedHeads
from aml_mil.mil.engine.replicate import (
    EpochRecord,
    Replicate,
    ReplicateState,
    TrainedHead,
    stack_parameters,
)
from aml_mil.mil.engine.resident import BagRows, ResidentBags
from aml_mil.mil.engine.scaling import FeatureScaling
from aml_mil.mil.engine.table import ResidentTable, StreamedTable, Table, make_table
from aml_mil.mil.engine.training import Training
from aml_mil.mil.engine.workspace import Workspace

__all__ = [
    "BagOutputs",
    "BagRows",
    "EpochRecord",
    "Evaluation",
    "FeatureScaling",
    "Replicate",
    "ReplicateState",
    "ResidentBags",
    "ResidentTable",
    "StackedHeads",
    "StreamedTable",
    "Table",
    "TrainedHead",
    "Training",
    "Workspace",
    "make_table",
    "stack_parameters",
]
