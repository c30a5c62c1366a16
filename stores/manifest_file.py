"""``manifest.json``: created once and exclusively, and compared for ever after."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stores import files
from stores.documents import (
    JSON,
    MAX_DOCUMENT_BYTES,
    DocumentError,
    Fields,
    decode_document,
    encode_document,
)
from stores.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreMismatchError,
    StoreVersionError,
)
from stores.schema import SCHEMA_VERSION, Manifest

MANIFEST_FILE = "manifest.json"

MIGRATIONS: Mapping[int, Callable[[Fields], Fields]] = {}
"""For each older version, what turns the fields of its manifest into those of the next."""


def encode_manifest(manifest: Manifest, store_format: str) -> bytes:
    """Spell a manifest as the bytes of its file."""
    trained_on: JSON = None if manifest.trained_on is None else list(manifest.trained_on)
    return encode_document(
        {
            "schema_version": manifest.schema_version,
            "format": store_format,
            "encoder": manifest.encoder,
            "architecture": manifest.architecture,
            "weights": manifest.weights,
            "weights_sha256": manifest.weights_sha256,
            "preprocessing": manifest.preprocessing,
            "numerics": manifest.numerics,
            "views": list(manifest.views),
            "feature_shape": list(manifest.feature_shape),
            "dtype": manifest.dtype,
            "trained_on": trained_on,
        }
    )


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """Read the manifest of a store, and the format of its bags.

    Raises:
        NotAStoreError: there is no manifest.
        StoreDamagedError: it is not as it was written.
        StoreVersionError: a newer release wrote it.
    """
    try:
        with files.noting(f"while reading the manifest of {path}"):
            data = files.read_bytes(path / MANIFEST_FILE, max_bytes=MAX_DOCUMENT_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotAStoreError(
            f"{path} is no feature store (no {MANIFEST_FILE} in it); check the path"
        ) from error
    except ValueError as error:
        raise StoreDamagedError(path, f"{MANIFEST_FILE}: {error}") from error
    try:
        fields = decode_document(data.tobytes())
        version = fields.count("schema_version")
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{path} has format version {version}, this release reads up to {SCHEMA_VERSION}; "
                "install a newer one: pip install --upgrade aml-mil"
            )
        while version < SCHEMA_VERSION:
            if version not in MIGRATIONS:
                raise DocumentError(f"there is no format version {version}")
            fields = MIGRATIONS[version](fields)
            version += 1
        return _manifest(fields), fields.text("format")
    except ValueError as error:
        raise StoreDamagedError(path, f"{MANIFEST_FILE}: {error}") from error


def _manifest(fields: Fields) -> Manifest:
    fields.check_keys(
        *("schema_version", "format", "encoder", "architecture", "weights", "weights_sha256"),
        *("preprocessing", "numerics", "views", "feature_shape", "dtype", "trained_on"),
    )
    return Manifest(
        encoder=fields.text("encoder"),
        architecture=fields.text("architecture"),
        weights=fields.text("weights"),
        weights_sha256=fields.text("weights_sha256"),
        preprocessing=fields.mapping("preprocessing"),
        numerics=fields.mapping("numerics"),
        views=fields.texts("views"),
        feature_shape=fields.counts("feature_shape"),
        dtype=fields.text("dtype"),
        trained_on=fields.optional_texts("trained_on"),
    )


def publish_manifest(path: Path, staged: Path, data: bytes) -> bool:
    """Put the manifest in place unless there is one; say whether this call did.

    Args:
        path: Folder of the store.
        staged: A name nobody else uses, on the same file system.
        data: Bytes of the manifest.
    """
    files.durable_write(staged, data)
    try:
        files.publish_file(staged, path / MANIFEST_FILE)
    except FileExistsError:
        return False
    finally:
        staged.unlink(missing_ok=True)
    return True


def check_same_identity(path: Path, stored: Manifest, wanted: Manifest) -> None:
    """Refuse to mix features made in different ways.

    Raises:
        StoreMismatchError: shows both values of every field that differs.
    """
    lines = []
    for name in stored.difference(wanted):
        old, new = getattr(stored, name), getattr(wanted, name)
        if isinstance(old, Mapping):
            lines += [
                f"{name}.{key}: store {old.get(key)!r}, asked for {new.get(key)!r}"
                for key in sorted(old.keys() | new.keys())
                if old.get(key) != new.get(key) or (key in old) != (key in new)
            ]
        else:
            lines.append(f"{name}: store {old!r}, asked for {new!r}")
    if lines:
        raise StoreMismatchError(
            f"{path} holds features made in another way: {'; '.join(lines)}; "
            "use the store's settings or another store"
        )
