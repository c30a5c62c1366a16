"""``bag.json``: what a bag consists of, to the byte.

It names every file of the bag with size and SHA-256 and says where each array lies. A reader that
finds the files as recorded knows them to be the committed ones, without asking the library of the
format about bytes it cannot trust.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stores.arrays import ArrayEntry, content_sha256, num_bytes
from stores.documents import JSON, DocumentError, Fields, as_json, decode_document, encode_document
from stores.schema import (
    ARRAY_NAMES,
    COLOUR,
    COLOUR_CHANNELS,
    COORDS,
    FEATURES,
    INSTANCE_IDS,
    MAX_ARRAY_BYTES,
    SCHEMA_VERSION,
    TEXT_ARRAYS,
    TEXT_DTYPE,
    VIEWS,
    ArraySpec,
    Bag,
    BagRecord,
    Manifest,
    QuarantinedFile,
)
from stores.versions import Migrations, bring_up

BAG_FILE = "bag.json"

MIGRATIONS: Migrations = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """Size and SHA-256 of a file of the bag."""

    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """The whole of ``bag.json``.

    Attributes:
        bag: The part callers see.
        arrays: Where each array lies.
        files: Every other file of the bag, by its path inside the bag's folder.
        identity_sha256: Of the manifest the bag was written under.
    """

    bag: BagRecord
    arrays: Mapping[str, ArrayEntry]
    files: Mapping[str, FileEntry]
    identity_sha256: str


def describe(
    bag: Bag,
    *,
    arrays: Mapping[str, ArrayEntry],
    files: Mapping[str, FileEntry],
    identity_sha256: str,
) -> CommitRecord:
    """Write down a bag whose files are ready."""
    attributes = as_json(bag.attributes, "attributes")
    assert isinstance(attributes, dict)
    record = BagRecord(
        bag_id=bag.bag_id,
        num_instances=len(bag.instance_ids),
        label=bag.label,
        attributes=attributes,
        quarantined=tuple(bag.quarantined),
        fingerprint=bag.fingerprint,
        arrays={name: entry.spec for name, entry in arrays.items()},
        sha256=content_sha256({name: (e.spec, e.sha256) for name, e in arrays.items()}),
        ids_sha256=arrays[INSTANCE_IDS].sha256,
    )
    return CommitRecord(bag=record, arrays=arrays, files=files, identity_sha256=identity_sha256)


def encode_record(record: CommitRecord) -> bytes:
    """Spell a record as the bytes of ``bag.json``."""
    bag = record.bag
    quarantined: list[JSON] = [{"file": q.file, "reason": q.reason} for q in bag.quarantined]
    arrays: dict[str, JSON] = {
        name: {
            "shape": list(entry.spec.shape),
            "dtype": entry.spec.dtype,
            "sha256": entry.sha256,
            "crc32c": entry.crc32c,
            "offset": entry.offset,
            "nbytes": entry.nbytes,
        }
        for name, entry in record.arrays.items()
    }
    files: dict[str, JSON] = {
        path: {"nbytes": entry.nbytes, "sha256": entry.sha256}
        for path, entry in record.files.items()
    }
    return encode_document(
        {
            "schema_version": SCHEMA_VERSION,
            "bag_id": bag.bag_id,
            "num_instances": bag.num_instances,
            "label": bag.label,
            "attributes": bag.attributes,
            "quarantined": quarantined,
            "fingerprint": bag.fingerprint,
            "arrays": arrays,
            "files": files,
            "content_sha256": bag.sha256,
            "identity_sha256": record.identity_sha256,
        }
    )


def decode_record(data: bytes, manifest: Manifest) -> CommitRecord:
    """Read ``bag.json`` and check that it fits the store.

    Raises:
        DocumentError: damaged, inconsistent, or of a bag of another store.
        StoreVersionError: a newer release wrote it.
    """
    fields = bring_up(
        decode_document(data), version=SCHEMA_VERSION, migrations=MIGRATIONS, where=BAG_FILE
    )
    fields.check_keys(
        *("schema_version", "bag_id", "num_instances", "label", "attributes", "quarantined"),
        *("fingerprint", "arrays", "files", "content_sha256", "identity_sha256"),
    )
    arrays = {name: _array_entry(name, item) for name, item in fields.table("arrays").items()}
    bag = BagRecord(
        bag_id=fields.text("bag_id"),
        num_instances=fields.count("num_instances"),
        label=fields.optional_text("label"),
        attributes=fields.mapping("attributes"),
        quarantined=tuple(_quarantined(item) for item in fields.objects("quarantined")),
        fingerprint=fields.text("fingerprint"),
        arrays={name: entry.spec for name, entry in arrays.items()},
        sha256=fields.text("content_sha256"),
        ids_sha256=arrays[INSTANCE_IDS].sha256 if INSTANCE_IDS in arrays else "",
    )
    record = CommitRecord(
        bag=bag,
        arrays=arrays,
        files={path: _file_entry(item) for path, item in fields.table("files").items()},
        identity_sha256=fields.text("identity_sha256"),
    )
    _check_fit(record, manifest)
    return record


def _quarantined(fields: Fields) -> QuarantinedFile:
    fields.check_keys("file", "reason")
    return QuarantinedFile(file=fields.text("file"), reason=fields.text("reason"))


def _file_entry(fields: Fields) -> FileEntry:
    fields.check_keys("nbytes", "sha256")
    return FileEntry(nbytes=fields.count("nbytes"), sha256=fields.text("sha256"))


def _array_entry(name: str, fields: Fields) -> ArrayEntry:
    fields.check_keys("shape", "dtype", "sha256", "crc32c", "offset", "nbytes")
    entry = ArrayEntry(
        spec=ArraySpec(shape=fields.counts("shape"), dtype=fields.text("dtype")),
        sha256=fields.text("sha256"),
        crc32c=fields.count("crc32c"),
        offset=fields.count("offset"),
        nbytes=fields.count("nbytes"),
    )
    if entry.nbytes > MAX_ARRAY_BYTES:
        raise DocumentError(f"{name} claims {entry.nbytes} bytes, the limit is {MAX_ARRAY_BYTES}")
    return entry


def expected_specs(record: BagRecord, manifest: Manifest) -> dict[str, ArraySpec]:
    """Say what shape and dtype each array of a bag of this store must have."""
    num = record.num_instances
    specs = {
        name: ArraySpec(shape=(num,), dtype=TEXT_DTYPE)
        for name in record.arrays
        if name in TEXT_ARRAYS or name == INSTANCE_IDS
    }
    shape = (num, *manifest.feature_shape)
    specs[FEATURES] = ArraySpec(shape=shape, dtype=manifest.dtype)
    if COLOUR in record.arrays:
        specs[COLOUR] = ArraySpec(shape=(num, COLOUR_CHANNELS), dtype="float32")
    specs[INSTANCE_IDS] = ArraySpec(shape=(num,), dtype=TEXT_DTYPE)
    if manifest.num_views > 1:
        specs[VIEWS] = ArraySpec(shape=(manifest.num_views - 1, *shape), dtype=manifest.dtype)
    if COORDS in record.arrays:
        specs[COORDS] = ArraySpec(shape=(num, 2), dtype="float32")
    return {name: specs[name] for name in ARRAY_NAMES if name in specs}


def _check_fit(record: CommitRecord, manifest: Manifest) -> None:
    if record.identity_sha256 != manifest.identity_sha256:
        raise DocumentError(
            f"it is a bag of another store (identity {record.identity_sha256[:12]}, "
            f"this store {manifest.identity_sha256[:12]})"
        )
    if record.bag.num_instances < 1:
        raise DocumentError(f"{BAG_FILE} claims no instances")
    expected = expected_specs(record.bag, manifest)
    for name in sorted(expected.keys() | record.arrays.keys()):
        if name not in record.arrays or record.arrays[name].spec != expected.get(name):
            raise DocumentError(f"{BAG_FILE} does not describe {name!r} as the store needs it")
    for name, entry in record.arrays.items():
        if entry.spec.dtype != TEXT_DTYPE and entry.nbytes != num_bytes(entry.spec):
            raise DocumentError(f"{BAG_FILE} gives {name} {entry.nbytes} bytes")
    if record.bag.sha256 != content_sha256(
        {name: (entry.spec, entry.sha256) for name, entry in record.arrays.items()}
    ):
        raise DocumentError(f"{BAG_FILE} does not hash to its content_sha256")
