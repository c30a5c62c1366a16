"""How models chosen on validation patients hold when every patient's stain has changed.

    python -m benchmarks.robustness RUN=SHIFTED_STORE [RUN=SHIFTED_STORE …] [--json FILE]

A RUN is a folder of fit-mil, SHIFTED_STORE the same encoder's features of a copy of the cohort
made by `benchmarks.shifted_cohort`. Each fold's heads and floors are applied to the fold's
**validation** patients, as they are and changed: test patients choose nothing. The epoch of each
head was chosen on the same patients, for all runs alike, so the figures are a little too good.

`ensemble` averages the probabilities of all runs whose encoder has learnt something. Floors are
fitted on the training patients. The interval is over patients, of the seeds' averaged
probabilities.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from aml_mil.embedding.colour import pool_colours
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.floors import floor_model
from aml_mil.evaluation.patient_cells import read_bag
from aml_mil.evaluation.patients import PatientScores
from aml_mil.evaluation.predict import heads_by_fold
from aml_mil.mil.run_dir import Run
from benchmarks.study_choice import validation_scores
from stores import FeatureStore, open_store

FloatArray = npt.NDArray[np.float64]


def score_run(run: Run, shifted: Path) -> dict[str, tuple[PatientScores, PatientScores]]:
    """Predict the validation patients of every fold, as they are and changed.

    Args:
        run: A finished run of one store.
        shifted: The same patients' store, changed.

    Returns:
        The run under its title, and the floors ``colour`` and ``mean_pooling``.
    """
    predictions = run.predictions()
    plain = validation_scores(run.path)
    heads = heads_by_fold(run)
    with open_store(shifted) as store:
        changed = np.zeros_like(plain.probabilities)
        for place, patient_id in enumerate(plain.patient_ids):
            fold = int(plain.folds[place])
            changed[:, place] = read_bag(heads[fold], store.read(patient_id).features).probabilities
        scores = {run_title(run): (plain, replace(plain, probabilities=changed))}
        with open_store(run.document["stores"][0]["path"]) as own:
            train = {
                fold: sorted(set(predictions.of_replicate(fold, 0).of_role("train").patient_ids))
                for fold in heads
            }
            figures, figures_changed = _floor_figures(own), _floor_figures(store)
    labels = dict(zip(predictions.patient_ids, predictions.targets.tolist(), strict=True))
    for name in figures:
        pair = [
            _floor(plain, train, labels, figures[name], asked)
            for asked in (figures[name], figures_changed[name])
        ]
        scores[name] = (pair[0], pair[1])
    return scores


def run_title(run: Run) -> str:
    """Name a run by the last two parts of its path."""
    return "/".join(run.path.absolute().parts[-2:])


def is_random(run: Run) -> bool:
    """Whether a run's encoder has learnt nothing."""
    return str(run.document["stores"][0]["weights"]).startswith("random:")


def _floor_figures(store: FeatureStore) -> dict[str, dict[str, FloatArray]]:
    figures: dict[str, dict[str, FloatArray]] = {"colour": {}, "mean_pooling": {}}
    for bag_id in store.bag_ids:
        bag = store.read(bag_id)
        pooled = bag.features.astype(np.float64)
        figures["mean_pooling"][bag_id] = pooled.mean(axis=tuple({0, *range(2, pooled.ndim)}))
        if bag.colour is not None:
            figures["colour"][bag_id] = pool_colours(bag.colour)
    return {name: of_patient for name, of_patient in figures.items() if of_patient}


def _floor(
    like: PatientScores,
    train: Mapping[int, Sequence[str]],
    labels: Mapping[str, int],
    figures: Mapping[str, FloatArray],
    asked: Mapping[str, FloatArray],
) -> PatientScores:
    """Fit on the training patients' figures, and predict the validation patients'."""
    probabilities = np.zeros((1, *like.probabilities.shape[1:]))
    for fold, rows in like.fold_rows.items():
        model = floor_model()
        model.fit([figures[p] for p in train[fold]], [labels[p] for p in train[fold]])
        x = [asked[like.patient_ids[row]] for row in rows]
        probabilities[0][np.ix_(rows, model.classes_)] = model.predict_proba(x)
    return replace(like, seeds=(0,), probabilities=probabilities)


def table(
    scores: Mapping[str, tuple[PatientScores, PatientScores]], *, baselines: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Lay out macro ROC-AUC as the patients are, changed, and the difference.

    Args:
        scores: By model, of the patients as they are and changed.
        baselines: Models to which each is compared on the changed patients, by title.

    Returns:
        A row for each model.
    """
    rows = []
    for name, (plain, changed) in scores.items():
        row: dict[str, Any] = {"model": name}
        for kind, of_kind in (("plain", plain), ("shifted", changed)):
            figure = assess(of_kind).macro["roc_auc"]
            row |= {
                kind: figure.mean,
                f"{kind}_averaged": figure.averaged,
                f"{kind}_low": figure.low,
                f"{kind}_high": figure.high,
            }
        row |= _columns("change", changed, plain)
        for title, model in baselines.items():
            row |= _columns(f"shifted_minus_{title}", changed, scores[model][1])
        rows.append(row)
    return rows


def _columns(name: str, first: PatientScores, second: PatientScores) -> dict[str, float | None]:
    found = paired_intervals(first, second)["roc_auc"][MACRO]
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def ensemble(scores: Sequence[PatientScores]) -> PatientScores:
    """Average the probabilities of several runs over the same patients and folds."""
    mean = np.mean([s.averaged for s in scores], axis=0)
    return replace(scores[0], seeds=(0,), probabilities=mean[None])


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="RUN=SHIFTED_STORE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    scores: dict[str, tuple[PatientScores, PatientScores]] = {}
    runs: list[str] = []
    baselines = {}
    for pair in options.pairs:
        path, _, shifted = pair.partition("=")
        run = Run(path)
        runs.append(run_title(run))
        if is_random(run):
            baselines.setdefault("random_encoder", run_title(run))
        for name, of_model in score_run(run, Path(shifted)).items():
            store = Path(run.document["stores"][0]["path"])
            key = f"{name} of {store.parent.name}/{store.stem}" if name == "mean_pooling" else name
            scores.setdefault(key, of_model)
            if name == "colour":
                baselines["colour"] = name
    learned = [name for name in runs if name != baselines.get("random_encoder")]
    if len(learned) > 1:
        scores["ensemble"] = (
            ensemble([scores[name][0] for name in learned]),
            ensemble([scores[name][1] for name in learned]),
        )
    rows = table(scores, baselines=baselines)
    print("macro ROC-AUC of the validation patients")
    print(tabulate(rows, headers="keys", floatfmt=".3f"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
