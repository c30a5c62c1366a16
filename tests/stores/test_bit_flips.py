import pytest

from tests.stores.flips import build_store, flip_bits, places_of
from tests.stores.samples import SUFFIXES

SURROUNDINGS = {"/zarr.json", "/bags/zarr.json"}  # read by other software only


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"small{request.param}"


def test_no_flipped_bit_in_any_file_changes_what_is_read(path):
    expected = build_store(path)
    report = flip_bits(path, expected, num=300, seed=0)
    assert not report.wrong
    assert report.harmless.keys() <= SURROUNDINGS
    assert report.caught.total() + report.harmless.total() == 300


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [True, False])
def test_a_thousand_flips_in_chunks_and_a_thousand_elsewhere(path, chunks, capsys):
    expected = build_store(path)
    report = flip_bits(path, expected, num=1000, seed=1, chunks=chunks)
    with capsys.disabled():
        print(f"\n{path.suffix}, {'array bytes' if chunks else 'everything else'}")  # noqa: T201
        print(report.table())  # noqa: T201
    assert not report.wrong
    assert report.harmless.keys() <= (set() if chunks else SURROUNDINGS)


def test_the_places_to_flip_cover_every_byte_once(path):
    build_store(path)
    whole = sum(end - first for _, first, end in places_of(path, chunks=None))
    parts = [
        sum(end - first for _, first, end in places_of(path, chunks=chunks))
        for chunks in (True, False)
    ]
    assert min(parts) > 0
    assert sum(parts) == whole
