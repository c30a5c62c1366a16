"""Memory that does not grow with the cohort."""

import json

import pytest

from benchmarks import embed_memory, many_patients

NUM_PATIENTS = 3_000
MIB = 2**20


@pytest.mark.slow
def test_a_huge_patient_in_a_large_cohort_takes_little_more_than_a_small_cohort(tmp_path):
    small = embed_memory.measure("zarr", embed_memory.SMALL_CELLS, 0)
    large = embed_memory.measure("zarr", 30_000, 20_000)
    assert large["peak_mib"] - small["peak_mib"] <= 200e6 / MIB


@pytest.mark.slow
def test_what_a_patient_more_takes_of_memory_is_bounded(tmp_path):
    words = ["--patients", str(NUM_PATIENTS), "--folder", str(tmp_path)]
    result = many_patients.main([*words, "--json", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text()) == result
    grown = {name: step["grown_mib"] for name, step in result["steps"].items()}
    assert set(grown) == {"make", "open", "list", "info", "pack", "resume"}
    for name, most_bytes in (("list", 500), ("info", 300), ("pack", 5_000), ("resume", 5_000)):
        assert grown[name] <= 2 + NUM_PATIENTS * most_bytes / MIB, name
