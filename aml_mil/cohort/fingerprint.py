"""Fingerprints of the source files: what a bag was made of, by content and name alone."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Files with the same bytes under several names.

    Attributes:
        sha256: Hex digest of the shared content.
        members: (patient id, instance id) of each copy, sorted.
    """

    sha256: str
    members: tuple[tuple[str, str], ...]

    @property
    def across_patients(self) -> bool:
        """Whether the copies belong to different patients, where they leak between folds."""
        return len({patient_id for patient_id, _ in self.members}) > 1


def source_fingerprint(files: Iterable[tuple[str, str]]) -> str:
    """Hash which files a patient has and what is in them.

    Args:
        files: (instance id, SHA-256 hex of the bytes) of all files of the patient, the quarantined
            ones too, in any order.

    Returns:
        SHA-256 hex; changes when a file is added, removed, renamed or edited, and stays when the
        cohort is moved, touched or listed in another order.

    Raises:
        ValueError: An instance id stands twice.
    """
    ordered = sorted(files)
    if len({instance_id for instance_id, _ in ordered}) < len(ordered):
        message = "expected each instance id once, got a repeated one"
        raise ValueError(message)
    digest = hashlib.sha256()
    for instance_id, sha256 in ordered:
        name = instance_id.encode("utf-8", "surrogateescape")
        # The length in front keeps neighbouring fields apart whatever the name contains.
        digest.update(len(name).to_bytes(8, "little") + name + bytes.fromhex(sha256))
    return digest.hexdigest()


def find_copies(files: Iterable[tuple[str, str, str]]) -> tuple[Copies, ...]:
    """Find byte-identical files.

    Args:
        files: (patient id, instance id, SHA-256 hex of the bytes) of all files, in any order.

    Returns:
        One record for each content that occurs more than once, ordered by its first member.
    """
    by_content: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for patient_id, instance_id, sha256 in files:
        by_content[sha256].append((patient_id, instance_id))
    found = [
        Copies(sha256=sha256, members=tuple(sorted(members)))
        for sha256, members in by_content.items()
        if len(members) > 1
    ]
    return tuple(sorted(found, key=lambda copies: copies.members))
