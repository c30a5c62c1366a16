"""What every importer turns a neighbour's files into: bags that are described before they are read.

N instances, D… the shape of one feature, V views.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.documents import JSON
from stores.schema import IDENTITY_VIEW, QuarantinedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a user may say about a source beyond its path.

    Attributes:
        labels: Table of labels, where the source does not hold it.
        slides: STAMP's slide table (PATIENT, FILENAME), where the source does not hold it.
        id_column: Column of the bag ids, where it has another name than the neighbour gives it.
        label_column: Column of the labels, where it has another name than the neighbour gives it.
        prefix: SCEMILA: which of several feature files beside the images, e.g. ``fnl34_``.
        view: Giga-SSL: which of several views.
        dtype: One-table CSV: what the numbers were before they became text.
        allow_unknown_labels: Leave out labels of bags that are not there.
    """

    labels: Path | None = None
    slides: Path | None = None
    id_column: str | None = None
    label_column: str | None = None
    prefix: str | None = None
    view: str | None = None
    dtype: str | None = None
    allow_unknown_labels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one bag that its owner should know.

    Attributes:
        bag_id: The bag, or the file where there is no bag.
        problem: What it is, and what was done about it.
    """

    bag_id: str
    problem: str

    def __str__(self) -> str:
        return f"{self.bag_id}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """Size and type of a bag, known before its features are read.

    Attributes:
        dtype: As the source names it, e.g. ``float32`` or ``bfloat16``.
    """

    num_instances: int
    feature_shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """The arrays of a bag as the source holds them; None where it has none.

    Attributes:
        features: ``[N, D…]``.
        instance_ids: N texts; None numbers them from 0.
        views: ``[V-1, N, D…]``.
        coords: ``[N, 2]`` of any number type.
        colour: ``[N, 6]``.
    """

    features: NDArray[Any]
    instance_ids: tuple[str, ...] | None = None
    views: NDArray[Any] | None = None
    coords: NDArray[Any] | None = None
    colour: NDArray[np.float32] | None = None
    instance_labels: tuple[str, ...] | None = None
    smear: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceBag:
    """One bag of a source.

    Attributes:
        place: The file it comes from, for messages.
        spec: What `load` will return.
        load: Reads the arrays.
        label: None where the source gives none.
        attributes: Everything else the source says about the bag.
        quarantined: What the source itself left out.
    """

    bag_id: str
    place: str
    spec: FeatureSpec
    load: Callable[[], Content]
    label: str | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    quarantined: tuple[QuarantinedFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A neighbour's features, checked as far as that is possible without reading them.

    Attributes:
        importer: Name of the layout.
        path: Where it lies.
        encoder: The neighbour's own name of the encoder; None where it keeps none.
        bags: With distinct ids.
        views: Names of the views each bag has.
        trained_on: Ids the encoder has seen; None = unknown.
        facts: What else the source says about all bags; information only.
        findings: What is worth knowing about single bags.
        notes: What was found where; one line each.
    """

    importer: str
    path: Path
    encoder: str | None
    bags: tuple[SourceBag, ...]
    views: tuple[str, ...] = (IDENTITY_VIEW,)
    trained_on: tuple[str, ...] | None = None
    facts: Mapping[str, JSON] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
