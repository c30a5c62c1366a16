"""What is counted of a bag, read from its commit record in some microseconds.

The checksum of the record is checked, and that it is of this store and this folder; and that
its arrays are of one length; the rest is left to those who read them.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from stores.commit_record import BAG_FILE, CommitRecord
from stores.documents import DocumentError, check_whole
from stores.names import encode_bag_id
from stores.schema import COLOUR, VIEWS

READ_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Brief:
    """What is counted of a bag.

    Attributes:
        bag_id: Its id.
        num_instances: How many it has.
        label: Its label.
        num_quarantined: Files that were left out.
        has_colour: Whether it holds the colour of its instances.
        num_bytes: Of all its files.
    """

    bag_id: str
    num_instances: int
    label: str | None
    num_quarantined: int
    has_colour: bool
    num_bytes: int


def brief_of(record: CommitRecord, *, record_num_bytes: int) -> Brief:
    """Count a bag whose commit record was read and checked.

    Args:
        record: Of the bag.
        record_num_bytes: What ``bag.json`` takes.
    """
    return Brief(
        record.bag.bag_id,
        record.bag.num_instances,
        record.bag.label,
        len(record.bag.quarantined),
        COLOUR in record.arrays,
        record_num_bytes + sum(entry.nbytes for entry in record.files.values()),
    )


def read_brief(folder: str, name: str, *, identity_sha256: str) -> Brief | None:
    """Count a bag; None where `read_fields` finds nothing to count.

    Args:
        folder: Of the bag.
        name: Of the folder.
        identity_sha256: Of the store's manifest.
    """
    read = read_fields(folder, name, identity_sha256=identity_sha256)
    if read is None:
        return None
    fields, length = read
    try:
        arrays, num = fields["arrays"], fields["num_instances"]
        if any(entry["shape"][name == VIEWS] != num for name, entry in arrays.items()):
            return None
        return Brief(
            fields["bag_id"],
            num,
            fields["label"],
            len(fields["quarantined"]),
            COLOUR in arrays,
            length + sum(entry["nbytes"] for entry in fields["files"].values()),
        )
    except (KeyError, TypeError, AttributeError, IndexError):
        return None


def read_fields(
    folder: str, name: str, *, identity_sha256: str
) -> tuple[dict[str, Any], int] | None:
    """Read the commit record of a bag as plain fields.

    Args:
        folder: Of the bag.
        name: Of the folder.
        identity_sha256: Of the store's manifest.

    Returns:
        The fields, and how many bytes they took. None where the record is missing, long, or not as
        it was written: a case for the reader that says what is wrong.
    """
    try:
        descriptor = os.open(f"{folder}/{BAG_FILE}", os.O_RDONLY | os.O_NONBLOCK)
        try:
            data = os.read(descriptor, READ_BYTES)
        finally:
            os.close(descriptor)
        check_whole(data)
        fields = json.loads(data)
        if fields["identity_sha256"] == identity_sha256 and encode_bag_id(fields["bag_id"]) == name:
            return fields, len(data)
    except (OSError, DocumentError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
