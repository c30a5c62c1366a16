"""Put together what a run did."""

from collections.abc import Sequence

from aml_mil.cohort import Cohort, find_copies
from aml_mil.embedding.numerics import Numerics
from aml_mil.embedding.outcome import Outcome
from aml_mil.embedding.records import EmbedSummary, PrecisionCheck
from aml_mil.embedding.stain import recorded_reference
from stores import FeatureStore


def summarise(
    cohort: Cohort,
    store: FeatureStore,
    outcome: Outcome,
    *,
    numerics: Numerics,
    precision: PrecisionCheck | None,
    vanished: Sequence[str],
    dropped: Sequence[str],
    num_processes: int,
    seconds: float,
) -> EmbedSummary:
    """Summarise a run and log its end.

    Args:
        cohort: What was embedded.
        store: Where.
        outcome: What all processes did.
        numerics: Of the store.
        precision: Comparison with fp32.
        vanished: Ids of bags left without a patient.
        dropped: Ids of such bags that were removed.
        num_processes: Of the run.
        seconds: How long the run took.

    Returns:
        The summary.
    """
    embedded, checked, refreshed = outcome.embedded, outcome.checked, outcome.refreshed
    anew = refreshed.committed.keys() | refreshed.taken.keys()
    there = {**embedded.taken, **checked.cells, **refreshed.taken}
    kept = {name: num for name, num in there.items() if name not in refreshed.committed}
    cells_embedded = sum(embedded.committed.values()) + sum(refreshed.committed.values())
    encoding_s = embedded.seconds + refreshed.seconds
    quarantined = [
        *embedded.quarantined,
        *(item for item in checked.quarantined if item.patient_id not in anew),
        *refreshed.quarantined,
    ]
    places = {patient.patient_id: place for place, patient in enumerate(cohort.patients)}
    changed = sorted(checked.changed, key=lambda change: places[change.patient_id])
    summary = EmbedSummary(
        store_path=store.path,
        store_bytes=store.num_bytes(),
        patients_embedded=len(embedded.committed),
        patients_skipped=len(kept),
        cells_embedded=cells_embedded,
        cells_skipped=sum(kept.values()),
        quarantined=tuple(sorted(quarantined, key=lambda item: places[item.patient_id])),
        copies=find_copies(embedded.hashes | checked.hashes | refreshed.hashes),
        changed=tuple(c for c in changed if c.patient_id not in refreshed.committed),
        vanished=tuple(vanished),
        refreshed=tuple(c for c in changed if c.patient_id in refreshed.committed),
        dropped=tuple(dropped),
        failed=(*embedded.failed, *refreshed.failed),
        engine=numerics.engine,
        compute_dtype=numerics.precision,
        stain_reference=recorded_reference(store.manifest.preprocessing),
        precision=precision,
        images_per_s=cells_embedded / encoding_s if encoding_s else 0.0,
        num_processes=num_processes,
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
