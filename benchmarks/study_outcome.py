"""What a study came to, as its steps left it: test predictions, baselines, pictures."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.random_floor import floor_scores
from aml_mil.evaluation.run import open_run
from aml_mil.mil.run_dir import METRICS_FILE
from benchmarks.study_choice import choose
from benchmarks.study_layout import RANDOM, Encoder, Study, title
from benchmarks.study_steps import read_records

FIGURE_WIDTH_PX = 1400


class Outcome:
    """What a study came to.

    Args:
        study: With its steps done.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.records = read_records(study.out)
        self._scores: dict[Path, PatientScores] = {}

    @cached_property
    def best(self) -> tuple[Encoder, str]:
        """Encoder and name of the heads that the validation patients chose."""
        encoder, heads = choose(self.study)
        return encoder, heads.name

    @property
    def few(self) -> str:
        """Kind of the runs on few folds, with the chosen heads."""
        _, heads = self.best
        return heads if self.study.budget.is_ssl_of_all_folds else f"{heads}-few-folds"

    def scores(self, encoder: Encoder, kind: str) -> PatientScores:
        """Test predictions of a run."""
        path = self.study.run(encoder, kind)
        if path not in self._scores:
            self._scores[path] = open_run(path).scores
        return self._scores[path]

    def models(self, kind: str, encoders: Sequence[Encoder]) -> dict[str, PatientScores]:
        """Test predictions by title, of those encoders that have been fitted."""
        return {
            title(encoder): self.scores(encoder, kind)
            for encoder in encoders
            if encoder.name != RANDOM and self.is_fitted(encoder, kind)
        }

    def mean_features(self, kind: str) -> dict[str, PatientScores]:
        """What a logistic regression makes of mean features, without heads; by title."""
        predictions = open_run(self.study.run(self.study.random, kind)).run.predictions()
        return {
            f"{title(encoder)}, mean features": floor_scores(
                predictions, self.study.store(encoder)
            )["mean_pooling"]
            for encoder in self.study.given
        }

    def training_minutes(self, encoder: Encoder) -> str:
        """How long an encoder was trained here, over its folds; "" where it was not."""
        names = [f"pretrain-{each.name}" for each in encoder.of_each_fold]
        seconds = [self.records[name]["seconds"] for name in names if name in self.records]
        return f"{sum(seconds) / 60:.1f}" if seconds else ""

    def command(self, step: str) -> str:
        """What a step ran, and does again."""
        return f"`{neutral(self.study, self.records[step]['command'])}`"

    def is_fitted(self, encoder: Encoder, kind: str) -> bool:
        """Whether a run is there."""
        return (self.study.run(encoder, kind) / METRICS_FILE).exists()

    def baselines(self, kind: str) -> dict[str, PatientScores]:
        """What a model must beat, on the folds of a kind of runs: colour and the random encoder."""
        random = self.study.random
        floors = floor_scores(
            open_run(self.study.run(random, kind)).run.predictions(), self.study.store(random)
        )
        found = {"colour": floors["colour"]} if "colour" in floors else {}
        return found | {title(random): self.scores(random, kind)}


def small_picture(study: Study, drawn: Path, name: str) -> str:
    """Shrink a drawn figure into STUDY/figures; return its path as the page names it."""
    target = study.out / "figures" / f"{name}.webp"
    target.parent.mkdir(exist_ok=True)
    with Image.open(drawn) as picture:
        picture.thumbnail((FIGURE_WIDTH_PX, 10 * FIGURE_WIDTH_PX))
        picture.convert("RGB").save(target, quality=85, method=6)
    return str(target.relative_to(study.out))


def neutral(study: Study, text: str) -> str:
    """Write the places of this machine as what they stand for."""
    places: Mapping[str, Path | None] = {
        "STUDY": study.out,
        "COHORT": study.cohort,
        "CELLS": study.annotated,
        "IMAGENET": study.imagenet,
        "MIL": study.mil,
        "BUNDLE": study.bundle,
    }
    given = [(str(path), name) for name, path in places.items() if path is not None]
    for path, name in sorted(given, key=lambda each: -len(each[0])):  # a longer path may hold one
        # A relative folder `study` is not the module `benchmarks.study`.
        text = re.sub(rf"(?<![\w.]){re.escape(path)}(?![\w-])", name, text)
    return text
