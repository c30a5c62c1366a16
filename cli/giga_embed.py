"""`aml-mil giga-embed`: one vector for every patient of a store."""

from pathlib import Path
from typing import Any

import click

from cli.local_path import LocalPath
from cli.output import json_option, print_facts, print_json, say
from cli.progress import with_bar
from cli.store_path import StorePath


@click.command("giga-embed")
@click.argument("store", type=StorePath())
@click.option(
    "--giga",
    required=True,
    metavar="GIGA.safetensors",
    type=LocalPath(dir_okay=False),
    help="What giga-ssl trained on features of the same encoder.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="NAME.csv (provenance beside it), NAME.npz or NAME.h5ad; replaced where it exists.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Draws of cells that are averaged for each patient.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the draws of cells.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--cohort",
    type=LocalPath(),
    help="The images the store was made from, to say how many bytes they are.",
)
@json_option
def giga_embed(
    *,
    store: Path,
    giga: Path,
    out: Path,
    draws: int,
    seed: int,
    device: str,
    cohort: Path | None,
    as_json: bool,
) -> None:
    """Turn every patient of STORE into one vector of length 1.

    Each is the mean over many draws of the patient's cells in the untouched view; which other
    patients are in the store plays no part.
    """
    import numpy as np

    from aml_mil.giga.bags import read_bags
    from aml_mil.giga.checkpoint import check_features, load_giga
    from aml_mil.giga.embed import embed_patients
    from aml_mil.giga.provenance import describe_embedding
    from aml_mil.giga.tables import PatientEmbeddings, check_suffix, write_embeddings
    from aml_mil.runtime import resolve_device

    check_suffix(out)
    encoder, info = load_giga(giga)
    resolved = resolve_device(device)
    bags = read_bags(store, device=resolved)
    check_features(info, bags.manifest, what=f"{giga} and {store}")
    vectors = with_bar(
        embed_patients(encoder.to(resolved), bags, num_draws=draws, seed=seed),
        total=len(bags.patient_ids),
        unit="patient",
        description="giga-embed",
    )
    embeddings = PatientEmbeddings(
        patient_ids=bags.patient_ids,
        labels=bags.labels,
        vectors=np.stack(list(vectors)),
        provenance=describe_embedding(giga, info, bags, num_draws=draws, seed=seed),
    )
    files = write_embeddings(out, embeddings)
    facts: dict[str, Any] = {
        "embeddings": [str(file) for file in files],
        "patients": len(bags.patient_ids),
        "dimensions": embeddings.vectors.shape[1],
        "seen_in_training": len(set(info.trained_on) & set(bags.patient_ids)),
        **_count_bytes(cohort, bags.num_cells, bags.manifest.preprocessing),
        "store_bytes": _store_bytes(store),
        "embedding_bytes": embeddings.vectors.nbytes,
    }
    if as_json:
        print_json(facts)
    else:
        print_facts({name: _say(value) for name, value in facts.items()})


def _count_bytes(cohort: Path | None, num_cells: int, preprocessing: Any) -> dict[str, int]:
    """Count what the images take: as files, and as pixels."""
    counts = {}
    if cohort is not None:
        from aml_mil.cohort import read_cohort

        patients = read_cohort(cohort).patients
        files = (cell.path for patient in patients for cell in patient.cells)
        counts["image_file_bytes"] = sum(file.stat().st_size for file in files)
    if size_px := preprocessing.get("image_size_px"):
        counts["pixel_bytes"] = num_cells * 3 * int(size_px) ** 2
    return counts


def _store_bytes(path: Path) -> int:
    from stores import open_store

    with open_store(path) as store:
        return store.num_bytes()


def _say(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else say(value)
