"""Format versions: documents of older ones are brought up step by step, newer ones are refused."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from stores.documents import DocumentError, Fields
from stores.errors import StoreVersionError

Migrations: TypeAlias = Mapping[int, Callable[[Fields], Fields]]
"""For each older version, what turns the fields of a document into those of the next."""


def bring_up(fields: Fields, *, version: int, migrations: Migrations, where: object) -> Fields:
    """Turn the fields of a document of any earlier version into those of the one that is read.

    Args:
        fields: Of the document, ``schema_version`` among them.
        version: Which is read.
        migrations: The steps.
        where: The document, for messages.

    Raises:
        DocumentError: it is of a version that never was.
        StoreVersionError: a newer release wrote it.
    """
    found = fields.count("schema_version")
    if found > version:
        raise StoreVersionError(
            f"{where} has format version {found}, this release reads up to {version}; "
            "install a newer one: pip install --upgrade aml-mil"
        )
    for step in range(found, version):
        if step not in migrations:
            raise DocumentError(f"there is no format version {step}")
        fields = migrations[step](fields)
    return fields
