"""A store that was damaged is found out, repaired, and completed by the command that made it."""

from pathlib import Path

from stores import open_store
from tests.command_line import RunCommand
from tests.e2e.conftest import EMBED


def contents(path: Path) -> dict[str, bytes]:
    """The files of all bags by relative path."""
    files = (file for file in (path / "bags").rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_a_damaged_store_is_repaired_and_embed_completes_it_to_the_byte(
    aml_mil: RunCommand, cohort: Path, store: Path, shared_store: Path
) -> None:
    flipped, cut, intact = open_store(store).bag_ids[:3]
    chunk = store / "bags" / flipped / "features" / "c" / "0" / "0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    (store / "bags" / cut / "bag.json").write_bytes(b"")

    verified = aml_mil("store", "verify", store)
    assert verified.code == 1
    assert f"aml-mil store repair {store}" in verified.err
    assert flipped in verified.err
    assert cut in verified.err

    repaired = aml_mil("store", "repair", store, "--json")
    assert repaired.code == 0, repaired.err
    assert (repaired.json["intact"], repaired.json["dropped"]) == (18, 2)
    assert intact in open_store(store)

    embedded = aml_mil("embed", cohort, *EMBED, "--out", store, "--json")
    assert embedded.code == 0, embedded.err
    assert aml_mil("store", "verify", store).code == 0
    assert contents(store) == contents(shared_store)
    assert aml_mil("store", "diff", store, shared_store).code == 0
