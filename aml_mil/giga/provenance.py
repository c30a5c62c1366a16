"""Where embeddings of patients come from."""

from pathlib import Path
from typing import Any

from aml_mil.encoders.weights import hash_file
from aml_mil.giga.bags import PatientBags
from aml_mil.giga.checkpoint import GigaInfo
from aml_mil.runtime import library_versions
from stores import JSON


def describe_embedding(
    giga: Path, info: GigaInfo, bags: PatientBags, *, num_draws: int, seed: int
) -> dict[str, JSON]:
    """Say how embeddings were made, so that they can be made again.

    Args:
        giga: File of the encoder of patients.
        info: What is known of it.
        bags: Who was embedded.
        num_draws: Draws averaged for each patient.
        seed: Of the draws.
    """
    manifest = bags.manifest
    features: dict[str, Any] = {
        "encoder": manifest.encoder,
        "weights": manifest.weights,
        "weights_sha256": manifest.weights_sha256,
        "identity_sha256": manifest.identity_sha256,
    }
    return {
        "giga": str(giga),
        "giga_sha256": hash_file(giga),
        "encoder_of_patients": info.shape.to_json(),
        "trained_on": list(info.trained_on),
        "store": str(bags.path),
        "bags_sha256": bags.sha256,
        "features": features,
        "draws": num_draws,
        "seed": seed,
        "versions": {**library_versions("torch", "numpy")},
    }
