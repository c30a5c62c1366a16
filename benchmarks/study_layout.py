"""Where the things of a study lie, and which encoders it compares."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aml_mil.mil.inputs import run_name
from benchmarks.study_budget import SSL_METHODS, Budget, Heads
from stores.files import durable_write

STUDY_FILE = "study.json"
RANDOM = "resnet18-random-0"
TITLES = {
    RANDOM: "random encoder",
    "squeezenet1_0_imagenet": "ImageNet SqueezeNet",
    "simclr-{fold}": "SimCLR",
    "swav-{fold}": "SwAV",
    "dino-{fold}": "DINO",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder to be compared.

    Attributes:
        name: Of its store; ``{fold}`` in it stands for the fold it was trained for.
        words: What `embed` is told.
        size_px: Side of the images.
        folds: Those it was trained for; none where one encoder is for all.
    """

    name: str
    words: tuple[str, ...]
    size_px: int
    folds: tuple[int, ...] = ()

    @property
    def of_each_fold(self) -> "list[Encoder]":
        """The encoders behind it, with every fold in the place of ``{fold}``."""
        return [
            replace(
                self,
                name=self.name.replace("{fold}", str(fold)),
                words=tuple(word.replace("{fold}", str(fold)) for word in self.words),
                folds=(),
            )
            for fold in self.folds
        ] or [self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is studied, and where things go.

    Attributes:
        cohort: Patients' images.
        annotated: Cells by type.
        out: Folder of the study.
        budget: Settings.
        has_cell_types: Whether cells of the cohort have an expert's type.
        imagenet: Weights of squeezenet1_0.
        mil: Folder of MIL benchmarks.
        bundle: Where a model for new patients goes.
        about: Further facts for the page of results.
    """

    cohort: Path
    annotated: Path
    out: Path
    budget: Budget
    has_cell_types: bool
    imagenet: Path | None = None
    mil: Path | None = None
    bundle: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Write study.json."""
        text = json.dumps(asdict(self), indent=2, default=str)
        durable_write(self.out / STUDY_FILE, f"{text}\n".encode())

    @classmethod
    def load(cls, folder: Path) -> "Study":
        """Read the study.json of a folder, which may have been moved."""
        values: dict[str, Any] = json.loads((folder / STUDY_FILE).read_text(encoding="utf-8"))
        budget = values["budget"]
        budget["ssl_folds"] = tuple(budget["ssl_folds"])
        budget["heads"] = tuple(Heads(**heads) for heads in budget["heads"])
        for name in _PATHS:
            values[name] = None if values[name] is None else Path(values[name])
        return cls(**values | {"budget": Budget(**budget), "out": folder})

    @property
    def folds(self) -> Path:
        """Fold of every patient."""
        return self.out / "folds.csv"

    @property
    def few_folds(self) -> Path:
        """Roles of the patients in those folds that have encoders of their own."""
        return self.folds if self.budget.is_ssl_of_all_folds else self.out / "splits"

    def store(self, encoder: Encoder, kind: str = "") -> Path:
        """Path of an encoder's features; ``{fold}`` stands for the fold."""
        return self.out / "stores" / kind / f"{encoder.name}.zarr"

    def run(self, encoder: Encoder, kind: str) -> Path:
        """Folder of an encoder's heads."""
        return self.out / "runs" / kind / run_name(self.store(encoder))

    @property
    def random(self) -> Encoder:
        """The encoder that has learnt nothing."""
        words = ("--encoder", "resnet18", "--weights", "random:0")
        return Encoder(name=RANDOM, words=words, size_px=self.budget.image_size_px)

    @property
    def supervised(self) -> Encoder:
        """The encoder of annotated cells."""
        words = ("--encoder", str(self.checkpoint("supervised")))
        return Encoder(name="supervised", words=words, size_px=self.budget.size_px("supervised"))

    @property
    def given(self) -> tuple[Encoder, ...]:
        """Encoders that have seen no patient: random, ImageNet, supervised."""
        encoders = [self.random, self.supervised]
        if self.imagenet is not None:
            words = ("--encoder", "torchvision:squeezenet1_0", "--weights", str(self.imagenet))
            size = self.budget.image_size_px
            encoders.insert(1, Encoder(name=self.imagenet.stem, words=words, size_px=size))
        return tuple(encoders)

    @property
    def given_and_trained(self) -> tuple[Encoder, ...]:
        """The given encoders that have learnt something."""
        return tuple(encoder for encoder in self.given if encoder.name != RANDOM)

    @property
    def self_supervised(self) -> tuple[Encoder, ...]:
        """Encoders pre-trained on the training patients of a fold."""
        return tuple(
            Encoder(
                name=f"{method}-{{fold}}",
                words=("--encoder", str(self.checkpoint(f"{method}-{{fold}}"))),
                size_px=self.budget.size_px(method),
                folds=self.budget.ssl_folds,
            )
            for method in SSL_METHODS
        )

    @property
    def answers(self) -> dict[str, str]:
        """What is tried against another stain: kinds of stores and runs, named for readers."""
        named = {"stain": "normalised", "colour": "colour views"}
        return {kind: name for kind, name in named.items() if self.budget.flags(kind)}

    @property
    def of_all_folds(self) -> tuple[Encoder, ...]:
        """Encoders for which all folds can be fitted: the rows of Table 1."""
        return self.given + (self.self_supervised if self.budget.is_ssl_of_all_folds else ())

    def checkpoint(self, name: str) -> Path:
        """Path of an encoder that is trained here."""
        return self.out / "encoders" / f"{name}.safetensors"


def title(encoder: Encoder) -> str:
    """Name an encoder for readers."""
    return TITLES.get(encoder.name, encoder.name)


_PATHS = [f.name for f in fields(Study) if "Path" in str(f.type)]
