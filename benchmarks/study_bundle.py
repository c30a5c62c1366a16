"""Write the model that a study delivers: a run folder that `predict` applies to new patients.

    python -m benchmarks.study_bundle STUDY --out DIR

DIR holds heads, the encoder, and EXPECTED.md: the ROC-AUC to be expected on later patients, stated
beforehand, with the argument for it.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_mil.evaluation.assessment import Figure, assess
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.new_patients import BUNDLED_ENCODER
from aml_mil.evaluation.random_floor import floor_scores
from aml_mil.evaluation.run import open_run
from aml_mil.mil.run_dir import METRICS_FILE
from aml_mil.report.run_tables import STRESS_FILE
from aml_mil.report.tables import format_figure_with_interval
from benchmarks.study_choice import candidates, choose, validation_figure, validation_scores
from benchmarks.study_layout import Study
from benchmarks.study_tables import markdown
from stores.files import durable_write

EXPECTED_FILE = "EXPECTED.md"
COLOUR_CHANGE = "cohort_colour"
RULE = (
    "Chosen by the ROC-AUC of validation patients: whoever cannot be told apart from the best, as "
    "the paired 95% interval of the difference holds 0, is its equal; of these one whose features "
    "were made robust to the stain is taken first, then the best."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A run that could be delivered.

    Attributes:
        name: For the table.
        run: Its folder.
        is_robust: Whether its features were made less dependent on the stain.
    """

    name: str
    run: Path
    is_robust: bool

    @property
    def validation(self) -> Figure:
        """ROC-AUC of the patients that chose its epochs."""
        return validation_figure(self.run)


def find_candidates(study: Study) -> list[Candidate]:
    """Name the runs of learned encoders that one file of weights is enough for."""
    found = [
        Candidate(name=f"{encoder.name}, {heads.name} heads", run=run, is_robust=False)
        for run, (encoder, heads) in candidates(study).items()
        if not encoder.folds
    ]
    best, heads = choose(study)
    normalised = study.run(best, "stain")
    if not best.folds and (normalised / METRICS_FILE).exists():
        name = f"{best.name}, {heads.name} heads, colour-normalised"
        found.append(Candidate(name=name, run=normalised, is_robust=True))
    return found


def choose_bundle(found: Sequence[Candidate]) -> Candidate:
    """Choose by `RULE`."""
    leader = max(found, key=lambda each: each.validation.averaged or 0.0)
    ahead = validation_scores(leader.run)
    equals = [
        each
        for each in found
        if each is leader
        or 0.0 in paired_intervals(ahead, validation_scores(each.run))["roc_auc"][MACRO]
    ]
    return max(equals, key=lambda each: (each.is_robust, each.validation.averaged or 0.0))


def fall_under_stress(run: Path) -> float | None:
    """Return by how much the ROC-AUC changes when every patient's colour is the cohort's."""
    path = run / STRESS_FILE
    if not path.exists():
        return None
    changes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["perturbations"]
    if COLOUR_CHANGE not in changes:
        return None
    change: float | None = changes[COLOUR_CHANGE]["difference"]["roc_auc"][MACRO]["estimate"]
    return change


def expected_page(study: Study, found: Sequence[Candidate], chosen: Candidate) -> str:
    """State the ROC-AUC to be expected on later patients, and why."""
    tested = assess(open_run(chosen.run).scores).macro["roc_auc"]
    validated = chosen.validation
    fall = min(fall_under_stress(chosen.run) or 0.0, 0.0)
    values = [min(v, t) for v, t in zip(_ends(validated), _ends(tested), strict=True)]
    low, expected, high = (max(0.0, value + fall) for value in values)
    floors = floor_scores(open_run(chosen.run).run.predictions(), study.store(study.random))
    colour = assess(floors["colour"]).macro["roc_auc"] if "colour" in floors else None
    rows = [
        [each.name, "yes" if each.is_robust else "no", format_figure_with_interval(each.validation)]
        for each in found
    ]
    return "\n\n".join(
        [
            "# What to expect of this model",
            f"**ROC-AUC on later patients: {expected:.2f} ({low:.2f} to {high:.2f}).** "
            "Stated before any such patient was seen.",
            f"Model: {chosen.name}. {RULE}",
            markdown(rows, ["candidate", "robust", "ROC-AUC of validation patients"]),
            "The argument, in figures of this cohort (95% intervals over patients):",
            "\n".join(
                [
                    f"- validation patients: {format_figure_with_interval(validated)}",
                    f"- test patients of the folds: {format_figure_with_interval(tested)}",
                    f"- colour alone: {format_figure_with_interval(colour)}; what a model owes "
                    "to colour need not hold where stain and scanner are others",
                    f"- change when every patient's colour is the cohort's: {fall:+.2f}, "
                    "which is taken off the smaller of the first two",
                ]
            ),
        ]
    )


def write_bundle(study: Study, out: Path) -> Candidate:
    """Write the folder; an earlier bundle there is replaced."""
    found = find_candidates(study)
    chosen = choose_bundle(found)
    weights = Path(open_run(chosen.run).store_document()["weights"])
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(chosen.run.iterdir()):
        if file.is_file():
            shutil.copyfile(file, out / file.name)
    shutil.copyfile(weights, out / BUNDLED_ENCODER)
    durable_write(out / EXPECTED_FILE, (expected_page(study, found, chosen) + "\n").encode())
    return chosen


def _ends(figure: Figure) -> tuple[float, float, float]:
    middle = figure.averaged or 0.0
    return (
        middle if figure.low is None else figure.low,
        middle,
        middle if figure.high is None else figure.high,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a bundle and say which model it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    given = parser.parse_args(arguments)
    chosen = write_bundle(Study.load(given.study), given.out)
    print(f"{given.out}: {chosen.name}; what to expect of it is in {EXPECTED_FILE}")


if __name__ == "__main__":
    main()
