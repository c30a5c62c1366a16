"""Write the model that a study delivers: a run folder that `predict` applies to new patients.

    python -m benchmarks.study_bundle STUDY --out DIR

DIR holds heads, the encoder, and EXPECTED.md: the ROC-AUC to be expected on later patients, stated
beforehand, with the argument for it.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.new_patients import BUNDLED_ENCODER
from aml_mil.evaluation.run import open_run
from aml_mil.report.numbers import format_figure_with_interval
from benchmarks.study_choice import candidates, choose
from benchmarks.study_layout import Study, title
from benchmarks.study_tables import cell_of, markdown
from stores.files import durable_write

EXPECTED_FILE = "EXPECTED.md"
ROBUSTNESS_FILE = "robustness.json"
RULE = (
    "Chosen by the ROC-AUC of validation patients whose stain was changed, each patient's in a "
    "direction of its own whatever the label: there, what heads have learnt from the stain of "
    "their training patients is worth nothing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A run that could be delivered.

    Attributes:
        name: For the table.
        run: Its folder.
        row: What `benchmarks.robustness` says of it.
    """

    name: str
    run: Path
    row: Mapping[str, float]


def find_candidates(study: Study) -> list[Candidate]:
    """Name the runs of learned encoders that one file of weights is enough for."""
    _, heads = choose(study)
    runs = {
        f"{title(encoder)}, {heads.name} heads": run
        for run, (encoder, heads) in candidates(study).items()
        if not encoder.folds
    }
    runs |= {
        f"{title(encoder)}, {heads.name} heads, {tried}": study.run(encoder, kind)
        for kind, tried in study.answers.items()
        for encoder in study.given_and_trained
    }
    rows = robustness_rows(study)
    return [
        Candidate(name=name, run=run, row=rows[model])
        for name, run in runs.items()
        if (model := "/".join(run.parts[-2:])) in rows
    ]


def robustness_rows(study: Study) -> dict[str, Mapping[str, float]]:
    """Return what was measured on changed patients, by model; nothing before it was measured."""
    path = study.out / ROBUSTNESS_FILE
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {row["model"]: row for row in rows}


def choose_bundle(found: Sequence[Candidate]) -> Candidate:
    """Choose by `RULE`."""
    return max(found, key=lambda each: each.row["shifted_averaged"])


def delivered(study: Study) -> Candidate:
    """Name the model that is delivered; any, as long as none can be, so that steps are listed."""
    if found := find_candidates(study):
        return choose_bundle(found)
    best, heads = choose(study)
    run = study.run(best, next(iter(study.answers), heads.name))
    return Candidate(name="not known yet", run=run, row={})


def expected_page(study: Study, found: Sequence[Candidate], chosen: Candidate) -> str:
    """State the ROC-AUC to be expected on later patients, and why."""
    tested = assess(open_run(chosen.run).scores).macro["roc_auc"]
    row, colour = chosen.row, robustness_rows(study).get("colour")
    # Never better than this cohort's own test patients, whatever chance did to the changed ones.
    fall = max(0.0, row["plain_averaged"] - row["shifted_averaged"])
    expected, low, high = (
        max(0.0, (value or 0.0) - fall) for value in (tested.averaged, tested.low, tested.high)
    )
    rows = [
        [
            each.name,
            cell_of(each.row, "plain_averaged", "plain"),
            cell_of(each.row, "shifted_averaged", "shifted"),
        ]
        for each in found
    ]
    if colour is not None:
        rows.append(
            [
                "colour alone",
                cell_of(colour, "plain_averaged", "plain"),
                cell_of(colour, "shifted_averaged", "shifted"),
            ]
        )
    return "\n\n".join(
        [
            "# What to expect of this model",
            f"**ROC-AUC on later patients: {expected:.2f} ({low:.2f} to {high:.2f}).** "
            "Stated before any such patient was seen.",
            f"Model: {chosen.name}. {RULE}",
            markdown(rows, ["candidate", "validation patients", "the same, stained otherwise"]),
            "The argument, in ROC-AUC of this cohort (95% intervals over patients):",
            "\n".join(
                [
                    f"- test patients of the folds: {format_figure_with_interval(tested)}, and "
                    f"{tested.averaged or 0.0:.2f} with the seeds averaged, as `predict` does",
                    f"- a change of stain takes {fall:.2f} from validation patients, and so from "
                    "this: later patients have another stain",
                    f"- it is the best of {len(found)}, chosen on the same patients, and other "
                    "microscopes and treatments are not in it: rather a little less",
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
