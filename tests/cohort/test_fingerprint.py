import hashlib
from collections.abc import Iterable

import pytest

from aml_mil.cohort import Copies, FileHashes, find_copies, source_fingerprint

ONE, TWO = (hashlib.sha256(data).hexdigest() for data in (b"1", b"2"))
FILES = [("image_0.tif", ONE), ("image_1.tif", TWO)]


def fingerprint(files: Iterable[tuple[str, str]]) -> str:
    return source_fingerprint(FileHashes.pack(files))


def test_the_order_of_files_changes_nothing() -> None:
    assert fingerprint(reversed(FILES)) == fingerprint(FILES)


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
    assert fingerprint(changed) != fingerprint(FILES)


def test_the_fingerprint_of_version_1_stays_what_it_is() -> None:
    expected = "9f560e0b811ca2450f89886141e16284c3bb8f08f91db87ea10b875591f57186"
    assert fingerprint(FILES) == expected


def test_a_file_that_was_not_read_counts_by_its_name_alone() -> None:
    unread = [*FILES, ("image_2.tif", "")]
    expected = "e8f793d6ae4c080b63ac6f9de1fa5be30ead41d62fb3a2db079bf7276d86688e"
    assert fingerprint(unread) == expected


def test_files_are_left_out_by_name() -> None:
    packed = FileHashes.pack([*FILES, ("image_2.tif", "")])
    assert packed.without({"image_0.tif", "image_2.tif"}) == FileHashes.pack(FILES[1:])


def test_an_instance_that_stands_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="each instance id once"):
        fingerprint([FILES[0], FILES[0]])


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
