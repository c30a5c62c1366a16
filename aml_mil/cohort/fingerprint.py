"""Fingerprints of the source files: what a bag was made of, by content and name alone."""

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

UNREAD = bytes(hashlib.sha256().digest_size)


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


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Content of a patient's files, in 32 bytes each.

    Attributes:
        instance_ids: Of the files.
        digests: Their SHA-256, one after the other; zeros where a file was not read to its end.
    """

    instance_ids: tuple[str, ...]
    digests: bytes

    @classmethod
    def pack(cls, files: Iterable[tuple[str, str]]) -> "FileHashes":
        """Take instance id and SHA-256 hex of each file, or "" where it was not read."""
        names, digests = [], bytearray()
        for instance_id, sha256 in files:
            names.append(instance_id)
            digests += bytes.fromhex(sha256) or UNREAD
        return cls(tuple(names), bytes(digests))

    def without(self, instance_ids: Container[str]) -> "FileHashes":
        """Leave out some files."""
        kept = [(name, digest) for name, digest in self if name not in instance_ids]
        return FileHashes(tuple(name for name, _ in kept), b"".join(digest for _, digest in kept))

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Give instance id and digest of each file."""
        for place, instance_id in enumerate(self.instance_ids):
            yield instance_id, self.digests[place * len(UNREAD) : (place + 1) * len(UNREAD)]


def source_fingerprint(files: FileHashes) -> str:
    """Hash which files a patient has and what is in them.

    Args:
        files: All files of the patient, the quarantined ones too, in any order.

    Returns:
        SHA-256 hex; changes when a file is added, removed, renamed or edited, and stays when the
        cohort is moved, touched or listed in another order.

    Raises:
        ValueError: An instance id stands twice.
    """
    ordered = sorted(files)
    if len(set(files.instance_ids)) < len(ordered):
        message = "expected each instance id once, got a repeated one"
        raise ValueError(message)
    whole = hashlib.sha256()
    for instance_id, digest in ordered:
        name = instance_id.encode("utf-8", "surrogateescape")
        # The length in front keeps neighbouring fields apart whatever the name contains.
        whole.update(len(name).to_bytes(8, "little") + name)
        if digest != UNREAD:
            whole.update(digest)
    return whole.hexdigest()


def find_copies(files: Mapping[str, FileHashes]) -> tuple[Copies, ...]:
    """Find byte-identical files.

    Args:
        files: Patient id → all files of that patient.

    Returns:
        One record for each content that occurs more than once, ordered by its first member.
    """
    repeated = _repeated_beginnings(part.digests for part in files.values())
    if not repeated:
        return ()
    by_content: defaultdict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for patient_id, part in files.items():
        for instance_id, digest in part:
            if digest[:8] in repeated:
                by_content[digest].append((patient_id, instance_id))
    found = [
        Copies(sha256=digest.hex(), members=tuple(sorted(members)))
        for digest, members in by_content.items()
        if len(members) > 1
    ]
    return tuple(sorted(found, key=lambda copies: copies.members))


def _repeated_beginnings(digests: Iterable[bytes]) -> frozenset[bytes]:
    """Find the first 8 bytes that several digests share: of equal ones, and by chance of others."""
    parts = [np.frombuffer(part, dtype=(np.uint64, 4))[:, 0] for part in digests if part]
    if not parts:
        return frozenset()
    beginnings = np.sort(np.concatenate(parts))
    repeated = beginnings[1:][beginnings[1:] == beginnings[:-1]]
    return frozenset(value.tobytes() for value in np.unique(repeated))
