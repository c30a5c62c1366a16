"""What is measured on training patients before an encoder can be built.

Shapes: D features.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from aml_mil.giga.bags import IntArray, PatientBags, require_places
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.errors import GigaError
from aml_mil.giga.network import EncoderShape


def choose_shape(bags: PatientBags, config: GigaConfig) -> EncoderShape:
    """Decide which encoder fits the patients.

    Args:
        bags: Training patients.
        config: Settings.

    Raises:
        CoordsMissingError: The sparse encoder was asked for, and cells lack places.
        GigaError: A setting has no effect on the encoder that auto takes.
    """
    kind = config.encoder
    if kind == "auto":
        kind = "set" if bags.places is None else "sparse"
        try:
            replace(config, encoder=kind)
        except ValueError as error:
            raise GigaError(f"auto takes the {kind} encoder for {bags.path}: {error}") from error
    grid_step = None
    if kind == "sparse":
        places = require_places(bags).cpu().numpy()
        grid_step = config.grid_step or nearest_neighbour_distance(places, bags.offsets)
    return EncoderShape(
        kind=kind,
        num_features=bags.table.shape[1],
        width=config.width,
        pooling=config.pooling,
        grid_step=grid_step,
        cells=config.cells,
    )


def nearest_neighbour_distance(places: np.ndarray, offsets: IntArray) -> float:
    """Measure the median distance of a cell to the nearest other cell of its patient.

    Args:
        places: [N, 2].
        offsets: First cell of each patient and, last, N.

    Returns:
        Above 0; cells at one place do not count, and 1 where no patient has two places.
    """
    nearest: list[np.ndarray] = []
    for first, last in pairwise(offsets.tolist()):
        own = np.unique(places[first:last], axis=0)
        if len(own) > 1:
            nearest.append(cKDTree(own).query(own, k=2)[0][:, 1])
    return float(np.median(np.concatenate(nearest))) if nearest else 1.0


def measure_scale(bags: PatientBags, patients: IntArray | None = None) -> tuple[Tensor, Tensor]:
    """Measure mean and s.d. of each feature over cells in the untouched view, [D] and [D].

    Args:
        bags: The patients.
        patients: Whose cells; everybody's if not given.
    """
    chosen = range(len(bags.patient_ids)) if patients is None else patients.tolist()
    total = torch.zeros(bags.table.shape[1], dtype=torch.float64, device=bags.table.device)
    squares, count = torch.zeros_like(total), 0
    for place in chosen:
        values = bags.table[bags.offsets[place] : bags.offsets[place + 1]].double()
        total += values.sum(0)
        squares += values.square().sum(0)
        count += len(values)
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return mean.float(), variance.sqrt().float()
