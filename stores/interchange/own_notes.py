"""What our own exports say about a store, where a layout has room for it.

It is information: a folder or table may have been changed since, so hashes of weights are not
taken over. The ids an encoder has seen are, for they can only forbid.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stores.documents import JSON
from stores.interchange.errors import SourceError
from stores.schema import IDENTITY_VIEW, Manifest, QuarantinedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNotes:
    """What is known of a store that was exported.

    Attributes:
        encoder: Its encoder's name; None for a folder of someone else.
        views: Its views.
        feature_shape: Of one feature; None for a folder of someone else.
        trained_on: Ids the encoder has seen; None = unknown.
        facts: Its whole manifest.
    """

    encoder: str | None = None
    views: tuple[str, ...] = (IDENTITY_VIEW,)
    feature_shape: tuple[int, ...] | None = None
    trained_on: tuple[str, ...] | None = None
    facts: Mapping[str, JSON] = field(default_factory=dict)


def manifest_json(manifest: Manifest) -> str:
    """Spell a manifest as JSON text."""
    return json.dumps(
        {
            "encoder": manifest.encoder,
            "architecture": manifest.architecture,
            "weights": manifest.weights,
            "weights_sha256": manifest.weights_sha256,
            "preprocessing": manifest.preprocessing,
            "numerics": manifest.numerics,
            "views": manifest.views,
            "feature_shape": manifest.feature_shape,
            "dtype": manifest.dtype,
            "trained_on": manifest.trained_on,
            "schema_version": manifest.schema_version,
        },
        indent=1,
    )


def parse_manifest(text: str, *, place: str) -> OwnNotes:
    """Read what an export said.

    Raises:
        SourceError: it is not what an export writes.
    """
    try:
        fields = json.loads(text)
        encoder, views, trained_on = (fields[key] for key in ("encoder", "views", "trained_on"))
        if not isinstance(encoder, str) or not encoder or not isinstance(views, list):
            raise ValueError("encoder or views are of another type")
        return OwnNotes(
            encoder=encoder,
            views=tuple(str(view) for view in views),
            feature_shape=tuple(int(side) for side in fields["feature_shape"]),
            trained_on=None if trained_on is None else tuple(str(item) for item in trained_on),
            facts={"exported_from": fields},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{place} is not the manifest of an export: {error}") from error


def read_own_notes(path: Path) -> OwnNotes:
    """Read the manifest beside an export; empty where there is none."""
    if not path.is_file():
        return OwnNotes()
    try:
        return parse_manifest(path.read_text(encoding="utf-8"), place=str(path))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not the manifest of an export: {error}") from error


def write_own_notes(path: Path, manifest: Manifest) -> None:
    """Write the manifest beside an export."""
    path.write_text(manifest_json(manifest) + "\n", encoding="utf-8")


def quarantined_json(quarantined: tuple[QuarantinedFile, ...]) -> list[JSON]:
    """Spell quarantined files as plain JSON."""
    return [[item.file, item.reason] for item in quarantined]


def parse_about(
    attributes: str, quarantined: str, *, place: str
) -> tuple[dict[str, JSON], tuple[QuarantinedFile, ...]]:
    """Read the attributes of a bag and what was left out of it.

    Raises:
        SourceError: the texts are not as an export spells them.
    """
    try:
        kept, items = json.loads(attributes), json.loads(quarantined)
        if not isinstance(kept, dict):
            raise TypeError("attributes are no object")
        return kept, tuple(QuarantinedFile(file=str(f), reason=str(r)) for f, r in items)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{place}: attributes or quarantined are not JSON: {error}") from error
