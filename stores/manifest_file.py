"""``manifest.json``: created once and exclusively, and compared for ever after."""

from collections.abc import Mapping
from pathlib import Path

from stores import files
from stores.documents import (
    JSON,
    MAX_DOCUMENT_BYTES,
    Fields,
    decode_document,
    encode_document,
)
from stores.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreMismatchError,
)
from stores.schema import SCHEMA_VERSION, Manifest
from stores.versions import Migrations, bring_up

MANIFEST_FILE = "manifest.json"

MIGRATIONS: Migrations = {}


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
        if not path.exists():
            raise NotAStoreError(f"there is nothing at {path}; check the path") from error
        raise NotAStoreError(
            f"{path} is no feature store (no {MANIFEST_FILE} in it); check the path"
        ) from error
    except ValueError as error:
        raise StoreDamagedError(path, f"{MANIFEST_FILE}: {error}") from error
    return decode_manifest(data.tobytes(), path)


def decode_manifest(data: bytes, path: Path) -> tuple[Manifest, str]:
    """Read the manifest of a store from its bytes; see ``read_manifest``."""
    try:
        fields = bring_up(
            decode_document(data),
            version=SCHEMA_VERSION,
            migrations=MIGRATIONS,
            where=path,
        )
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


def check_same_identity(
    path: Path, stored: Manifest, wanted: Manifest, *, other_path: Path | None = None
) -> None:
    """Refuse to mix features made in different ways.

    Args:
        path: Of the store.
        stored: Its manifest.
        wanted: The other manifest.
        other_path: Of the store the other manifest is of; None = of none, it was asked for.

    Raises:
        StoreMismatchError: shows both values of every field that differs.
    """
    here, there = ("store", "asked for") if other_path is None else (path.name, other_path.name)
    lines = [
        f"{name}: {here} {old!r}, {there} {new!r}"
        for name, (old, new) in identity_differences(stored, wanted).items()
    ]
    if lines:
        advice = "use the store's settings or another store"
        raise StoreMismatchError(
            f"{path} holds features made in another way"
            f"{'' if other_path is None else f' than {other_path}'}: {'; '.join(lines)}; "
            f"{advice if other_path is None else 'such features do not belong together'}"
        )


def identity_differences(first: Manifest, second: Manifest) -> dict[str, tuple[object, object]]:
    """Return both values of every identity field, or entry of one, that differs."""
    differences: dict[str, tuple[object, object]] = {}
    for name in first.difference(second):
        old, new = getattr(first, name), getattr(second, name)
        if not isinstance(old, Mapping):
            differences[name] = old, new
            continue
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) or (key in old) != (key in new):
                differences[f"{name}.{key}"] = old.get(key), new.get(key)
    return differences
