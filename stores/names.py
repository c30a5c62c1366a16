"""Bag ids as folder names: reversible where short, hashed where long, never leaving the folder."""

import hashlib
import re
from urllib.parse import quote, unquote_to_bytes

from stores.schema import MAX_ID_BYTES

MAX_NAME_BYTES = 120
KEPT_PREFIX_BYTES = 80
LONG_NAME = re.compile(r"[A-Za-z0-9._%-]{80}~[0-9a-f]{16}")


def encode_bag_id(bag_id: str) -> str:
    """Turn an id into the name of its folder.

    Letters, digits and ``_ . -`` stand for themselves, every other byte of the UTF-8 form is
    percent-encoded, so is a first character that would make the name hidden, reserved by Zarr, or
    that of a group document. Over 120 bytes: the first 80, ``~``, and 16 hex digits of SHA-256.

    Returns:
        A name of ``A-Za-z0-9_.%~-``; ``"a/b"`` gives ``a%2Fb``, ``".."`` gives ``%2E.``.

    Raises:
        ValueError: an empty or overlong id, or one without UTF-8 form.
    """
    try:
        data = bag_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError("its id has no UTF-8 form") from error
    if not data:
        raise ValueError("its id is empty")
    if len(data) > MAX_ID_BYTES:
        raise ValueError(f"its id has {len(data)} bytes, at most {MAX_ID_BYTES} are stored")
    name = quote(data, safe="").replace("~", "%7E")
    if name.startswith((".", "__")) or name.lower() == "zarr.json":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) <= MAX_NAME_BYTES:
        return name
    return f"{name[:KEPT_PREFIX_BYTES]}~{hashlib.sha256(data).hexdigest()[:16]}"


def decode_bag_id(name: str) -> str | None:
    """Turn a folder name back into its id; None for a long name, which does not hold it.

    Raises:
        ValueError: no id has this folder name.
    """
    if LONG_NAME.fullmatch(name):
        return None
    try:
        bag_id = unquote_to_bytes(name).decode()
        if encode_bag_id(bag_id) == name:
            return bag_id
    except ValueError:
        pass
    raise ValueError(f"{name!r} is not the name of a bag folder")
