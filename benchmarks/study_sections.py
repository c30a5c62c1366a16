"""Sections of the page of results: tables of models beside what they must beat, and sentences."""

import json
from collections.abc import Iterable, Iterator, Mapping

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.run import open_run
from aml_mil.report.label_fractions import label_fraction_table, read_label_fractions
from aml_mil.report.numbers import signed_interval
from aml_mil.report.run_tables import Table, attention_table, stress_table
from benchmarks.mil_benchmarks import PUBLISHED
from benchmarks.study_bundle import delivered, robustness_rows
from benchmarks.study_layout import RANDOM, TITLES, Encoder, title
from benchmarks.study_outcome import Outcome, small_picture
from benchmarks.study_tables import (
    CAPTION,
    cell_of,
    markdown,
    model_table,
    per_class_table,
    roc_auc_difference,
    say_difference,
)

ANSWERS = {
    "stain": "After bringing each patient's colour to the cohort's",
    "colour": "With bags whose stain changes while heads learn",
}


def added_beyond_colour(outcome: Outcome) -> Iterator[str]:
    """Say in words what the models add."""
    _, heads = outcome.best
    yield "## What the MIL models add beyond colour"
    said = [
        say_difference(f"{name}, {heads} heads,", roc_auc_difference(scores, floor), base)
        for name, scores in outcome.models(heads, outcome.study.of_all_folds).items()
        for base, floor in outcome.baselines(heads).items()
    ]
    for kind, tried in outcome.study.answers.items():
        for encoder in outcome.study.given_and_trained:
            if not outcome.is_fitted(encoder, kind):
                continue
            before, after = outcome.scores(encoder, heads), outcome.scores(encoder, kind)
            random = outcome.scores(outcome.study.random, kind)
            lost = signed_interval(roc_auc_difference(after, before))
            said += [
                f"{ANSWERS[kind]}, {title(encoder)} changes by {lost}.",
                say_difference(
                    f"{title(encoder)}, {tried},",
                    roc_auc_difference(after, random),
                    f"the random encoder, {tried}",
                ),
            ]
    yield bullets(said)


def table_1(outcome: Outcome) -> Iterator[str]:
    """All encoders on all folds, a table for each variant of the heads."""
    study = outcome.study
    yield "## Table 1: all encoders"
    yield CAPTION
    for heads in study.budget.heads:
        if outcome.is_fitted(study.random, heads.name):
            yield f"Heads: {heads.name} (`{' '.join(['fit-mil', *heads.flags.split()])}`)"
            models = outcome.models(heads.name, study.of_all_folds)
            without_heads = outcome.mean_features(heads.name)
            yield model_table(
                models | without_heads,
                outcome.baselines(heads.name),
                extra=_training(outcome, study.of_all_folds),
            )
    yield (
        "Mean features: a logistic regression on a patient's mean features; no heads, no attention."
    )
    yield "### Each class"
    _, best_heads = outcome.best
    models = outcome.models(best_heads, study.of_all_folds)
    yield per_class_table(models, outcome.baselines(best_heads))


def self_supervised(outcome: Outcome) -> Iterator[str]:
    """The encoders pre-trained for few folds, beside the others on these folds."""
    study, kind = outcome.study, outcome.few
    if study.budget.is_ssl_of_all_folds or not outcome.is_fitted(study.random, kind):
        return
    folds = ", ".join(map(str, study.budget.ssl_folds))
    yield f"## Self-supervised encoders, fold {folds}"
    yield (
        f"Heads: {outcome.best[1]}, {len(outcome.scores(study.random, kind).seeds)} seeds. "
        "A fold's test patients are few: its intervals are wide."
    )
    encoders = (*study.given, *study.self_supervised)
    yield model_table(
        outcome.models(kind, encoders),
        outcome.baselines(kind),
        extra=_training(outcome, encoders),
    )


def _training(outcome: Outcome, encoders: Iterable[Encoder]) -> dict[str, dict[str, str]]:
    minutes = {title(encoder): outcome.training_minutes(encoder) for encoder in encoders}
    return {"training, minutes": minutes}


def neighbours(outcome: Outcome) -> Iterator[str]:
    """Cell types by nearest neighbours."""
    path = outcome.study.out / "knn.json"
    if not path.exists():
        return
    yield "### Cell types by nearest neighbours, fold 0"
    rows = [
        [
            TITLES.get(row["features"].replace("-0", "-{fold}"), row["features"]),
            f"{row['accuracy']:.3f}",
            _difference(row["gain"], row["low"], row["high"]),
            f"{row['by_patient']:.3f}",
            _difference(row["by_patient_gain"], row["by_patient_low"], row["by_patient_high"]),
            f"{row['balanced']:.3f}",
        ]
        for row in json.loads(path.read_text())
    ]
    difference = "− random encoder"
    headers = ["features", "of all cells", difference, "mean of patients", difference]
    yield markdown(rows, [*headers, "mean of cell types"])


def _difference(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f}, {low:+.3f} to {high:+.3f}"


def variants(outcome: Outcome) -> Iterator[str]:
    """One view against four, vectors against maps, and what is tried against another stain."""
    supervised = outcome.study.supervised
    best, heads = outcome.best
    own, few = title(supervised), outcome.few
    yield from _variant(
        outcome,
        "One view against four",
        {f"{own}, four flips": (supervised, heads), f"{own}, one view": (supervised, "one-view")},
        baselines=heads,
    )
    yield from _variant(
        outcome,
        "Vectors against maps",
        {f"{own}, vectors": (supervised, "vectors"), f"{own}, 5x5 maps": (supervised, "maps")},
        baselines=few,
    )
    for kind, tried in outcome.study.answers.items():
        yield from _variant(
            outcome,
            ANSWERS[kind],
            {
                title(best): (best, heads),
                f"{title(best)}, {tried}": (best, kind),
                **{f"{title(each)}, {tried}": (each, kind) for each in outcome.study.given},
            },
            baselines=heads,
        )


def _variant(
    outcome: Outcome, heading: str, runs: Mapping[str, tuple[Encoder, str]], *, baselines: str
) -> Iterator[str]:
    """Compare runs of which the second differs from the first in one thing."""
    if not all(outcome.is_fitted(*run) for run in runs.values()):
        return
    found = {name: outcome.scores(*run) for name, run in runs.items()}
    first, second, *_ = found
    yield f"## {heading}"
    yield model_table(found, outcome.baselines(baselines))
    between = signed_interval(roc_auc_difference(found[second], found[first]))
    yield f"{second} − {first}: {between}."


def attention(outcome: Outcome) -> Iterator[str]:
    """Attention by cell type, of the best and of the random encoder."""
    encoder, heads = outcome.best
    for each in (encoder, outcome.study.random):
        try:
            found = open_run(outcome.study.run(each, heads)).attention_by_type()
        except EvaluationError as error:
            yield f"Attention by cell type of {title(each)} is left out: {error}."
            continue
        yield f"## Attention by cell type: {title(each)}"
        yield f"Malignant − healthy cells: {signed_interval(found.gap)}."
        yield of_table(attention_table(found))


def stress(outcome: Outcome) -> Iterator[str]:
    """How figures fall when stain, light and optics change."""
    best, heads = outcome.best
    random, model = outcome.study.random, delivered(outcome.study)
    runs = {
        outcome.study.run(best, heads): title(best),
        outcome.study.run(random, heads): title(random),
    }
    runs[model.run] = f"{model.name}: the model for later patients"
    found = {name: stress_table(run) for run, name in runs.items() if run.exists()}
    told = {name: result for name, result in found.items() if result is not None}
    if told:
        yield "## Stress test"
        yield (
            "The floor of colour sees nothing but what `cohort_colour` takes away: there it is "
            "at chance."
        )
    for name, (table, sentences) in told.items():
        yield f"### {name}"
        yield of_table(table)
        yield bullets(sentences)


def changed_stain(outcome: Outcome) -> Iterator[str]:
    """Validation patients of a copy of the cohort that is stained otherwise."""
    measured = robustness_rows(outcome.study)
    if not measured:
        return
    yield "## Validation patients stained otherwise"
    yield (
        "ROC-AUC, seeds averaged (95% interval over patients). Each patient's hue, saturation, "
        "brightness and tint were changed in a direction of its own, whatever the label. Last "
        "columns: difference on the same changed patients."
    )
    rows = [
        [
            name.replace(RANDOM, "random encoder"),
            *(cell_of(row, f"{kind}_averaged", kind) for kind in ("plain", "shifted")),
            cell_of(row, "change", "change", sign="+"),
            *(
                cell_of(row, f"shifted_minus_{base}", f"shifted_minus_{base}", sign="+")
                for base in ("colour", "random_encoder")
            ),
        ]
        for name, row in measured.items()
    ]
    yield markdown(
        rows, ["model", "as they are", "changed", "change", "− colour", "− random encoder"]
    )


def few_labels(outcome: Outcome) -> Iterator[str]:
    """What patients' vectors are worth when labels are few."""
    folder = outcome.study.out / "probe"
    if points := read_label_fractions(folder):
        yield "## Label fractions"
        yield outcome.command("probe")
        drawn = small_picture(outcome.study, folder / "label_fractions.png", "label_fractions")
        yield f"![Label fractions]({drawn})"
        yield of_table(label_fraction_table(points))


def benchmarks(outcome: Outcome) -> Iterator[str]:
    """Public multiple-instance data beside published figures."""
    path = outcome.study.out / "mil_benchmarks.json"
    if not path.exists():
        return
    yield "## MIL benchmarks: accuracy"
    rows = [
        [
            name,
            record["setting"],
            f"{record['accuracy']:.3f} ± {record['se']:.3f}",
            "{:.3f} ± {:.3f}".format(*PUBLISHED[name]) if name in PUBLISHED else "–",
        ]
        for name, records in json.loads(path.read_text()).items()
        for record in records
    ]
    yield markdown(rows, ["data", "setting", "ours ± s.e. over folds", "attention MIL, published"])


def of_table(table: Table) -> str:
    """Lay a report's table out in Markdown."""
    return f"{table.caption}\n\n{markdown(table.rows, table.header)}"


def bullets(sentences: Iterable[str]) -> str:
    """Write sentences as a list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)
