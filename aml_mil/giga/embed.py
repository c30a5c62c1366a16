"""One vector for a patient: the mean over many draws of cells, brought to length 1.

Shapes: P patients, R draws of k cells, H dimensions.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from aml_mil.giga.bags import PatientBags, require_places
from aml_mil.giga.draws import draw_for_embedding
from aml_mil.giga.network import PatientEncoder

DEFAULT_DRAWS = 50  # Source: Lazard et al. 2022 (20 to 100).


def embed_patients(
    encoder: PatientEncoder, bags: PatientBags, *, num_draws: int = DEFAULT_DRAWS, seed: int = 0
) -> Iterator[NDArray[np.float32]]:
    """Embed patients by the untouched view of their cells; their places are not turned.

    Args:
        encoder: On the device of the bags; left in evaluation mode.
        bags: The patients; one depends on none of the others.
        num_draws: R.
        seed: Of the draws.

    Yields:
        [H] for each patient in order, of length 1.

    Raises:
        CoordsMissingError: The encoder is sparse, and cells lack places.
    """
    if encoder.shape.kind == "sparse":
        require_places(bags)
    encoder.eval()
    for place, patient_id in enumerate(bags.patient_ids):
        cells = draw_for_embedding(
            patient_id,
            num_cells=int(bags.sizes[place]),
            cells=encoder.shape.cells,
            num_draws=num_draws,
            seed=seed,
        )
        with torch.no_grad():
            encoded = encoder(bags.gather(bags.offsets[place] + cells)).mean(0)
        yield normalize(encoded, dim=0).cpu().numpy()
