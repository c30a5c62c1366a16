"""The logical schema of a feature store: the one place with names, dtypes and the version.

B bags, N instances of a bag, V views, D… the shape of one feature.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.documents import JSON, as_json, canonical_json

SCHEMA_VERSION = 1

FEATURES = "features"  # [N, D…] of the untouched image
VIEWS = "views"  # [V-1, N, D…] of the further views
INSTANCE_IDS = "instance_ids"  # [N] text
COLOUR = "colour"  # [N, 6] mean and standard deviation of R, G, B; absent where no image was seen
INSTANCE_LABELS = "instance_labels"  # [N] text, "" = none
SMEAR = "smear"  # [N] text
COORDS = "coords"  # [N, 2]
ARRAY_NAMES = (FEATURES, VIEWS, INSTANCE_IDS, COLOUR, INSTANCE_LABELS, SMEAR, COORDS)
TEXT_ARRAYS = frozenset({INSTANCE_IDS, INSTANCE_LABELS, SMEAR})

FEATURE_DTYPES = ("float16", "float32", "float64")
COLOUR_CHANNELS = 6
TEXT_DTYPE = "utf8"
IDENTITY_VIEW = "identity"
MAX_ARRAY_BYTES = 2**32 - 2**16  # HDF5 chunks end at 4 GiB; also what a damaged shape can ask for
MAX_ID_BYTES = 4096

IDENTITY_FIELDS = (
    "encoder",
    "architecture",
    "weights_sha256",
    "preprocessing",
    "views",
    "feature_shape",
    "dtype",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """How every feature of a store was made.

    Attributes:
        encoder: Name as asked for, e.g. ``resnet18``.
        architecture: E.g. ``timm/resnet18``.
        weights: What was asked for (a path, ``timm``, ``random:0``); information only.
        weights_sha256: Hash of the weights themselves.
        preprocessing: Image size in px, mean, standard deviation, resize rule.
        numerics: Compute dtype, engine, device type, versions; not part of the identity.
        views: Names of the stored views, ``identity`` first.
        feature_shape: Shape of one feature, e.g. ``(512,)`` or ``(512, 5, 5)``.
        dtype: How features are stored.
        trained_on: Ids the encoder has seen; None = unknown, () = none.
        schema_version: Version of the format.

    Raises:
        ValueError: a value no store can have.
    """

    encoder: str
    architecture: str
    weights: str
    weights_sha256: str
    preprocessing: Mapping[str, JSON]
    numerics: Mapping[str, JSON]
    views: tuple[str, ...]
    feature_shape: tuple[int, ...]
    dtype: str = "float16"
    trained_on: tuple[str, ...] | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_texts(self)
        for name in ("preprocessing", "numerics"):
            object.__setattr__(self, name, as_json(getattr(self, name), name))
        object.__setattr__(self, "views", tuple(self.views))
        object.__setattr__(self, "feature_shape", tuple(int(d) for d in self.feature_shape))
        if self.trained_on is not None:
            object.__setattr__(self, "trained_on", tuple(self.trained_on))
        if self.views[:1] != (IDENTITY_VIEW,) or len(set(self.views)) != len(self.views):
            raise ValueError(f"views must be distinct, {IDENTITY_VIEW!r} first, got {self.views}")
        if not self.feature_shape or min(self.feature_shape) < 1:
            raise ValueError(f"feature_shape must be positive, got {self.feature_shape}")
        if self.dtype not in FEATURE_DTYPES:
            raise ValueError(f"dtype must be one of {FEATURE_DTYPES}, got {self.dtype!r}")

    @property
    def num_views(self) -> int:
        """Number of stored views, the untouched image included."""
        return len(self.views)

    @property
    def identity_sha256(self) -> str:
        """Hash of what makes two features comparable; every bag carries it."""
        identity = {name: as_json(getattr(self, name), name) for name in IDENTITY_FIELDS}
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    def difference(self, other: "Manifest") -> tuple[str, ...]:
        """Name the identity fields in which two manifests differ; empty if bags may be mixed."""
        return tuple(
            name
            for name in IDENTITY_FIELDS
            if as_json(getattr(self, name), name) != as_json(getattr(other, name), name)
        )


def _check_texts(manifest: Manifest) -> None:
    for item in fields(manifest):
        value: Any = getattr(manifest, item.name)
        if item.type in (str, "str") and not isinstance(value, str):
            raise ValueError(f"{item.name} must be text, got {value!r}")
        texts = value if item.name in ("views", "trained_on") and value is not None else ()
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{item.name} must be a tuple of text, got {value!r}")
        as_json(value, item.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedFile:
    """A source file that could not be used, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bag:
    """One bag with its arrays: what is written, and what a read returns.

    Attributes:
        bag_id: Any non-empty text.
        features: ``[N, D…]`` of the untouched image.
        instance_ids: N distinct, non-empty texts.
        colour: ``[N, 6]`` mean and standard deviation of R, G, B, float32; None = the images were
            not seen (imported features).
        views: ``[V-1, N, D…]`` of the further views; None if the store has the identity only.
        instance_labels: N texts, "" = none; None = the bag has none.
        smear: N texts; None = unknown.
        coords: ``[N, 2]`` float32, NaN where an instance has none; None = the bag has none.
        label: The label of the bag.
        attributes: Further columns of the bag.
        quarantined: Source files left out.
        fingerprint: Hash of the source files, "" if unknown.
    """

    bag_id: str
    features: NDArray[Any]
    instance_ids: tuple[str, ...]
    colour: NDArray[np.float32] | None = None
    views: NDArray[Any] | None = None
    instance_labels: tuple[str, ...] | None = None
    smear: tuple[str, ...] | None = None
    coords: NDArray[np.float32] | None = None
    label: str | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    quarantined: tuple[QuarantinedFile, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """Shape and dtype of a stored array; texts have the dtype ``utf8``."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BagRecord:
    """What ``bag.json`` says about a bag, without its arrays.

    Attributes:
        arrays: Shape and dtype by name.
        sha256: Over every array's name, shape, dtype and content; the same in both formats.
        ids_sha256: Over the instances' ids; the same in both formats.
    """

    bag_id: str
    num_instances: int
    label: str | None
    attributes: Mapping[str, JSON]
    quarantined: tuple[QuarantinedFile, ...]
    fingerprint: str
    arrays: Mapping[str, ArraySpec]
    sha256: str
    ids_sha256: str
