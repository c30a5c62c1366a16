"""Write STUDY/RESULTS.md from what the steps of a study left behind.

    python -m benchmarks.study_results STUDY

Numbers and plots only. What was not run is left out. STUDY/remarks.md, written by hand, is taken
into the page, so that it outlives the next writing. Paths appear as COHORT, CELLS and STUDY.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from aml_mil.evaluation.run import open_run
from aml_mil.report.numbers import format_figure_with_interval
from benchmarks import study_sections as sections
from benchmarks.study_choice import candidates, validation_figure
from benchmarks.study_layout import Study, title
from benchmarks.study_outcome import Outcome, neutral, small_picture
from benchmarks.study_tables import markdown
from stores.files import durable_write


def overview(outcome: Outcome) -> Iterator[str]:
    """Say what was run, on what."""
    study, about = outcome.study, outcome.study.about
    encoder, heads = outcome.best
    cells = open_run(study.run(study.random, heads)).run.document["num_cells"]
    patients = ", ".join(f"{count} {label}" for label, count in about["patients"].items())
    hardware = dict.fromkeys(r["hardware"] for r in outcome.records.values() if "hardware" in r)
    minutes = sum(r["seconds"] for r in outcome.records.values()) / 60
    yield "# Results"
    yield (
        f"{sum(about['patients'].values())} patients ({patients}), {cells} cells of "
        f"{about['num_files']} files. Budget `{about['budget']}`: {minutes:.0f} minutes on "
        f"{' and '.join(hardware)}."
    )
    yield f"```bash\n{neutral(study, about['command'])}\n```"
    rows = [
        [title(e), h.name, format_figure_with_interval(validation_figure(run))]
        for run, (e, h) in candidates(study).items()
    ]
    yield (
        "Encoder and heads that are looked at more closely below were chosen by validation "
        f"patients, who also chose each head's epoch: **{title(encoder)}, {heads}**."
    )
    yield markdown(rows, ["encoder", "heads", "ROC-AUC of validation patients"])


def figures(outcome: Outcome) -> Iterator[str]:
    """Figures 2 to 5 and the label fractions, as small pictures."""
    study = outcome.study
    yield "## Figures 2–5"
    for folder in sorted((study.out / "drawings").glob("*")):
        yield outcome.command(f"compare-{folder.name}")
        for drawn in sorted(folder.glob("*.png")):
            yield f"![{drawn.stem}]({small_picture(study, drawn, f'{folder.name}-{drawn.stem}')})"


def remarks(outcome: Outcome) -> Iterator[str]:
    """What was written by hand."""
    path = outcome.study.out / "remarks.md"
    if path.exists():
        yield "## What did not work"
        yield path.read_text(encoding="utf-8").strip()


def cost(outcome: Outcome) -> Iterator[str]:
    """What each step took, and the command that does it again."""
    yield "## What each step took"
    rows = [
        [
            name,
            f"{record['seconds']:.0f}",
            f"{record['cpu_s']:.0f}",
            str(record["attempts"]),
            outcome.command(name),
        ]
        for name, record in outcome.records.items()
        if "command" in record
    ]
    yield markdown(rows, ["step", "seconds", "CPU seconds", "starts", "command"])


SECTIONS: tuple[Callable[[Outcome], Iterator[str]], ...] = (
    overview,
    sections.added_beyond_colour,
    sections.table_1,
    sections.self_supervised,
    sections.neighbours,
    figures,
    sections.variants,
    sections.attention,
    sections.stress,
    sections.changed_stain,
    sections.few_labels,
    sections.benchmarks,
    remarks,
    cost,
)


def write_results(folder: Path) -> Path:
    """Write the page of a study."""
    outcome = Outcome(Study.load(folder))
    paragraphs = [text for section in SECTIONS for text in section(outcome)]
    path = folder / "RESULTS.md"
    durable_write(path, ("\n\n".join(paragraphs) + "\n").encode())
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    print(write_results(parser.parse_args(arguments).study))


if __name__ == "__main__":
    main()
