import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.documents import DocumentError, as_json, decode_document, encode_document

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def is_storable(value: object) -> bool:
    try:
        as_json(value, "value")
    except ValueError:
        return False
    return True


@given(VALUES.filter(is_storable))
def test_what_is_written_is_read(value):
    fields = {"outer": {"value": as_json(value, "value")}}
    assert decode_document(encode_document(fields)).mapping("outer") == fields["outer"]


@given(st.data())
def test_any_changed_byte_is_seen(data):
    document = encode_document({"a": 1, "b": ["x", None, 2.5], "c": {"é": True}})
    position = data.draw(st.integers(0, len(document) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != document[position]))
    with pytest.raises(DocumentError):
        decode_document(document[:position] + bytes([byte]) + document[position + 1 :])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a": 1}',
        b'{"checksum": null}',
        b'{"a": NaN, "checksum": ""}',
        b'{"a": 1e999, "checksum": ""}',
        b'{"a": "\\ud800", "checksum": ""}',
        b"[" * 100_000,
        b'{"a": ' * 50_000,
        b"1" * 10_000,
        encode_document({"a": 1}) + b" ",
        encode_document({"a": 1}).replace(b" ", b""),
        encode_document({"a": 1}).replace(b'"a": 1', b'"a": 1,\n "a": 1'),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(DocumentError):
        decode_document(data)


def test_fields_come_by_type():
    fields = decode_document(encode_document({"n": 3, "t": "x", "l": ["a"], "o": {"k": {}}}))
    assert fields.count("n") == 3
    assert fields.text("t") == "x"
    assert fields.texts("l") == ("a",)
    assert fields.table("o").keys() == {"k"}
    for ask, key in (
        (fields.count, "t"),
        (fields.text, "n"),
        (fields.texts, "o"),
        (fields.counts, "l"),
        (fields.mapping, "l"),
        (fields.table, "l"),
        (fields.objects, "l"),
        (fields.text, "missing"),
    ):
        with pytest.raises(DocumentError, match=key):
            ask(key)


@pytest.mark.parametrize("value", [True, -1, 1.0, "1", None])
def test_a_count_is_a_whole_number_from_zero(value):
    with pytest.raises(DocumentError, match="not a count"):
        decode_document(encode_document({"n": value})).count("n")


def test_missing_and_extra_keys_are_named():
    fields = decode_document(encode_document({"a": 1, "extra": 2}))
    with pytest.raises(DocumentError, match=r"missing: \['b'\].*unknown: \['extra'\]"):
        fields.check_keys("a", "b")


def test_tuples_become_lists_and_foreign_types_are_refused():
    assert as_json({"a": (1, 2.5, "x", None)}, "it") == {"a": [1, 2.5, "x", None]}
    for value in (object(), b"x", {1, 2}, float("inf"), {1: 2}, ["\ud800"]):
        with pytest.raises(ValueError, match="it"):
            as_json(value, "it")


def test_a_document_is_plain_json_with_sorted_keys():
    document = encode_document({"b": "é", "a": 1})
    assert list(json.loads(document)) == ["a", "b", "checksum"]
    assert "é".encode() in document
