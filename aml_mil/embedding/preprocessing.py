"""What happens to a patient before the encoder, as a store records it and later patients follow.

The encoder's own preprocessing (size, mean, s.d.) is not among it; the encoder brings that along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.errors import EmbedError
from aml_mil.embedding.stain import STAIN, Colour, describe_stain, recorded_reference
from stores import JSON

CELL_TYPES = "cell_types"
# Entries of a manifest's preprocessing; a store without one has done nothing of the kind.
BEFORE_ENCODER = (STAIN, CELL_TYPES)


def describe_preparation(config: EmbedConfig, reference: Colour | None) -> dict[str, JSON]:
    """Say what happens before the encoder.

    Args:
        config: Of the run.
        reference: Colour that each patient is brought to; None leaves them as they are.

    Returns:
        Entries for the preprocessing of a manifest; none where nothing happens.
    """
    described: dict[str, JSON] = {}
    if reference is not None:
        described[STAIN] = describe_stain(reference)
    if config.cell_types:
        described[CELL_TYPES] = sorted(set(config.cell_types))
    return described


def follow_preparation(config: EmbedConfig, preprocessing: Mapping[str, JSON]) -> EmbedConfig:
    """Let later patients go the way of a store's.

    Args:
        config: Its stain and cell types are replaced.
        preprocessing: Of the store.

    Raises:
        EmbedError: What is recorded cannot be followed.
    """
    reference = recorded_reference(preprocessing)
    return replace(
        config,
        stain="none" if reference is None else "patient",
        stain_reference=reference,
        cell_types=_recorded_cell_types(preprocessing),
    )


def _recorded_cell_types(preprocessing: Mapping[str, JSON]) -> tuple[str, ...]:
    recorded = preprocessing.get(CELL_TYPES, [])
    names = [n for n in recorded if isinstance(n, str)] if isinstance(recorded, Sequence) else []
    if isinstance(recorded, str) or not isinstance(recorded, Sequence) or names != list(recorded):
        message = f"expected names of cell types in the preprocessing, got {recorded!r:.80}"
        raise EmbedError(message)
    return tuple(names)
