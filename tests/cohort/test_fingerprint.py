import hashlib

import pytest

from aml_mil.cohort import Copies, find_copies, source_fingerprint

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
    files = [("B", "2", TWO), ("A", "1", ONE), ("B", "1", ONE), ("B", "3", TWO), ("C", "1", "00")]
    assert find_copies(files) == (
        Copies(sha256=ONE, members=(("A", "1"), ("B", "1"))),
        Copies(sha256=TWO, members=(("B", "2"), ("B", "3"))),
    )
    assert [copies.across_patients for copies in find_copies(files)] == [True, False]
