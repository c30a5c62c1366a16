"""JSON documents that carry their own checksum and have exactly one spelling.

The text is canonical (sorted keys, one indentation, UTF-8), so that equal fields are equal bytes
and any changed byte, even of white space, is seen when the document is read.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

CHECKSUM_KEY = "checksum"
MAX_DOCUMENT_BYTES = 64 * 2**20
# Only a field of the outermost object stands behind one space, and no text holds a line break.
_CHECKSUM_LINE = re.compile(rb'\n "checksum": "([0-9a-f]{64})",(?=\n)')


class DocumentError(ValueError):
    """The bytes are not a document as it was written."""


def as_json(value: object, where: str) -> JSON:
    """Copy a value into plain JSON types: tuples become lists, foreign types are refused.

    Raises:
        ValueError: a type or number that JSON cannot hold, or text that UTF-8 cannot.
    """
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise ValueError(f"{where} has the key {wrong[0]!r}, expected text")
        return {
            str(as_json(key, where)): as_json(item, f"{where}.{key}") for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [as_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return _as_scalar(value, where)


def _as_scalar(value: object, where: str) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{where} is {value}, expected a finite number or None")
        return float(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where} {value!r} has no UTF-8 form") from error
        return str(value)
    raise ValueError(f"{where} is a {type(value).__name__}, expected a plain JSON value")


def canonical_json(fields: Mapping[str, JSON]) -> bytes:
    """Spell fields in the one way this package writes and hashes them."""
    text = json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def encode_document(fields: Mapping[str, JSON]) -> bytes:
    """Spell fields with their checksum, ready to be written.

    Raises:
        ValueError: the document is longer than any reader would take.
    """
    checksum = hashlib.sha256(canonical_json(fields)).hexdigest()
    data = canonical_json({**fields, CHECKSUM_KEY: checksum})
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"it takes {len(data)} bytes as JSON, at most {MAX_DOCUMENT_BYTES}")
    return data


def decode_document(data: bytes) -> "Fields":
    """Read back what ``encode_document`` wrote, to the byte.

    Raises:
        DocumentError: anything but the bytes that were written.
    """
    if _CHECKSUM_LINE.search(data) is None:
        return _decode_anew(data)
    check_whole(data)
    fields = _load(data)
    del fields[CHECKSUM_KEY]
    return Fields(fields)


def check_whole(data: bytes) -> None:
    """Check the bytes of a document, whose checksum is not its last field, by that checksum.

    Raises:
        DocumentError: they are not the ones that were written.
    """
    found = _CHECKSUM_LINE.search(data)
    if found is None:
        raise DocumentError("it carries no checksum")
    # Without this line the text is the very one that was hashed: no need to spell it anew.
    digest = hashlib.sha256(memoryview(data)[: found.start()])
    digest.update(memoryview(data)[found.end() :])
    if digest.hexdigest().encode() != found[1]:
        raise DocumentError("its checksum does not match its content")


def _decode_anew(data: bytes) -> "Fields":
    """Read a document whose checksum is its last field, or no document at all."""
    fields = _load(data)
    checksum = fields.pop(CHECKSUM_KEY, None)
    try:
        expected = encode_document(fields)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not readable as JSON ({error})") from error
    if checksum is None:
        raise DocumentError("it carries no checksum")
    if data != expected:
        raise DocumentError("its checksum does not match its content")
    return Fields(fields)


def _load(data: bytes) -> dict[str, JSON]:
    try:
        fields = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not readable as JSON ({error})") from error
    if not isinstance(fields, dict):
        raise DocumentError("expected a JSON object")
    return fields


class Fields:
    """The fields of a document, handed out by type.

    Every accessor raises ``DocumentError`` where the field is missing or of another type.
    """

    def __init__(self, fields: Mapping[str, JSON]) -> None:
        self._fields = fields

    def check_keys(self, *keys: str) -> None:
        """Refuse missing and extra keys."""
        found = set(self._fields)
        if found != set(keys):
            missing, extra = sorted(set(keys) - found), sorted(found - set(keys))
            raise DocumentError(f"keys missing: {missing[:5]}, keys unknown: {extra[:5]}")

    def _get(self, key: str) -> JSON:
        if key not in self._fields:
            raise DocumentError(f"field {key!r} is missing")
        return self._fields[key]

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._get(key)
        if not isinstance(value, str):
            raise DocumentError(f"field {key!r} is not text")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a string or None."""
        return None if self._get(key) is None else self.text(key)

    def count(self, key: str) -> int:
        """Return an integer of at least 0."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise DocumentError(f"field {key!r} is not a count")
        return value

    def mapping(self, key: str) -> dict[str, JSON]:
        """Return an object."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise DocumentError(f"field {key!r} is not an object")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DocumentError(f"field {key!r} is not a list of text")
        return tuple(str(item) for item in value)

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """Return a list of strings or None."""
        return None if self._get(key) is None else self.texts(key)

    def counts(self, key: str) -> tuple[int, ...]:
        """Return a list of integers of at least 0."""
        value = self._get(key)
        if not isinstance(value, list):
            raise DocumentError(f"field {key!r} is not a list of counts")
        return tuple(Fields({key: item}).count(key) for item in value)

    def objects(self, key: str) -> "tuple[Fields, ...]":
        """Return a list of objects."""
        value = self._get(key)
        if not isinstance(value, list):
            raise DocumentError(f"field {key!r} is not a list of objects")
        return tuple(Fields(Fields({key: item}).mapping(key)) for item in value)

    def table(self, key: str) -> "dict[str, Fields]":
        """Return an object of objects."""
        inner = Fields(self.mapping(key))
        return {name: Fields(inner.mapping(name)) for name in self.mapping(key)}
