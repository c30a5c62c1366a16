import hashlib

import pytest

from aml_mil.cohort import Copies, FileHashes, find_copies, source_fingerprint

ONE, TWO = (hashlib.sha256(data).hexdigest() for data in (b"1", b"2"))
FILES = [("image_0.tif", ONE), ("image_1.tif", TWO)]


def test_the_order_of_files_changes_nothing() -> None:
    assert source_fingerprint(reversed(FILES)) == source_fingerprint(FILES)


@pytest.mark.parametrize(
    "changed",
    [
        FILES[:1],
        [*FILES, ("image_2.tif", ONE)],
        [("image_0.tif", TWO), ("image_1.tif", ONE)],
        [("image_0.tif", ONE), ("image_2.tif", TWO)],
        [],
    ],
    ids=["removed", "added", "swapped", "renamed", "all gone"],
)
def test_any_change_of_names_or_content_changes_the_fingerprint(
    changed: list[tuple[str, str]],
) -> None:
    assert source_fingerprint(changed) != source_fingerprint(FILES)


def test_the_fingerprint_of_version_1_stays_what_it_is() -> None:
    expected = "9f560e0b811ca2450f89886141e16284c3bb8f08f91db87ea10b875591f57186"
    assert source_fingerprint(FILES) == expected


def test_an_instance_that_stands_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="each instance id once"):
        source_fingerprint([FILES[0], FILES[0]])


def test_copies_are_found_within_and_across_patients() -> None:
    begins_like_one = ONE[:16] + "0" * 48
    files = {
        "B": FileHashes.pack([("2", TWO), ("1", ONE), ("3", TWO)]),
        "D": FileHashes.pack([]),
        "A": FileHashes.pack([("1", ONE), ("2", begins_like_one)]),
        "C": FileHashes.pack([("1", "00" * 32)]),
    }
    found = find_copies(files)
    assert found == (
        Copies(sha256=ONE, members=(("A", "1"), ("B", "1"))),
        Copies(sha256=TWO, members=(("B", "2"), ("B", "3"))),
    )
    assert [copies.across_patients for copies in found] == [True, False]
    assert find_copies({"C": files["C"], "D": files["D"]}) == find_copies({}) == ()
