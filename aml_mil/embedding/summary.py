"""Put together what the passes of a run did."""

from collections.abc import Sequence

from aml_mil.cohort import Cohort, find_copies
from aml_mil.embedding.check import CheckingPass
from aml_mil.embedding.encode import EncodingPass
from aml_mil.embedding.numerics import Numerics
from aml_mil.embedding.records import EmbedSummary, PrecisionCheck
from stores import FeatureStore
from stores.files import tree_bytes


def summarise(
    cohort: Cohort,
    store: FeatureStore,
    *,
    embedding: EncodingPass,
    checking: CheckingPass,
    refreshing: EncodingPass,
    numerics: Numerics,
    precision: PrecisionCheck | None,
    vanished: Sequence[str],
    dropped: Sequence[str],
    seconds: float,
) -> EmbedSummary:
    """Summarise a run and log its end.

    Args:
        cohort: What was embedded.
        store: Where.
        embedding: The pass over missing patients.
        checking: The pass over those that were there.
        refreshing: The pass over changed ones.
        numerics: Of the store.
        precision: Comparison with fp32.
        vanished: Ids of bags left without a patient.
        dropped: Ids of such bags that were removed.
        seconds: How long the run took.

    Returns:
        The summary.
    """
    refreshed = refreshing.committed
    anew = refreshed.keys() | refreshing.taken.keys()
    there = {**embedding.taken, **checking.cells, **refreshing.taken}
    kept = {name: num for name, num in there.items() if name not in refreshed}
    cells_embedded = sum(embedding.committed.values()) + sum(refreshed.values())
    encoding_s = embedding.seconds + refreshing.seconds
    quarantined = [
        *embedding.quarantined,
        *(item for item in checking.quarantined if item.patient_id not in anew),
        *refreshing.quarantined,
    ]
    hashes = [
        *embedding.hashes,
        *(item for item in checking.hashes if item[0] not in anew),
        *refreshing.hashes,
    ]
    places = {patient.patient_id: place for place, patient in enumerate(cohort.patients)}
    summary = EmbedSummary(
        store_path=store.path,
        store_bytes=tree_bytes(store.path),
        patients_embedded=len(embedding.committed),
        patients_skipped=len(kept),
        cells_embedded=cells_embedded,
        cells_skipped=sum(kept.values()),
        quarantined=tuple(sorted(quarantined, key=lambda item: places[item.patient_id])),
        copies=find_copies(hashes),
        changed=tuple(c for c in checking.changed if c.patient_id not in refreshed),
        vanished=tuple(vanished),
        refreshed=tuple(c for c in checking.changed if c.patient_id in refreshed),
        dropped=tuple(dropped),
        failed=(*embedding.failed, *refreshing.failed),
        engine=numerics.engine,
        compute_dtype=numerics.precision,
        precision=precision,
        images_per_s=cells_embedded / encoding_s if encoding_s else 0.0,
        seconds=seconds,
    )
    store.log(
        {
            "event": "run_end",
            "patients_embedded": summary.patients_embedded,
            "cells_embedded": summary.cells_embedded,
            "images_per_s": round(summary.images_per_s, 1),
            "seconds": round(seconds, 3),
            "changed": len(summary.changed),
            "vanished": len(summary.vanished),
            "failed": len(summary.failed),
        }
    )
    return summary
