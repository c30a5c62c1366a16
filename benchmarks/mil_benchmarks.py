"""Accuracy on MUSK1, Fox and Elephant, beside published figures of attention MIL.

    python -m benchmarks.mil_benchmarks FOLDER [--names musk1,fox,elephant] [--partitions 5]
        [--folds 10] [--json FILE]

FOLDER holds `NAME.csv`, one row an instance: bag,label,f1…fd, taken as they are. Five stratified
partitions of ten folds, one seed each: 50 heads train in one stack per setting, each on eight
folds, with one for validation and one for the test. Of the settings below, each fold takes that of
the lowest validation loss, and the epoch likewise; the test fold chooses nothing.

Published: Ilse et al. 2018, table 1, https://arxiv.org/abs/1802.04712, quoted from memory; there,
nine folds train and none validates.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate

from aml_mil.cohort.folds import FoldRoles, make_folds, roles_of
from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import Replicate, ResidentBags, TrainedHead, Training
from aml_mil.mil.head import Head, HeadShape
from stores.interchange import IMPORTERS, ImportOptions

PUBLISHED = {"musk1": (0.892, 0.040), "fox": (0.615, 0.043), "elephant": (0.868, 0.022)}
SETTINGS = [{"lr": lr, "dropout": dropout} for lr in (0.005, 0.02) for dropout in (0.0, 0.5)]
FIXED: dict[str, Any] = {
    "seeds": 1,
    "epochs": 60,
    "patience": 20,
    "accumulate": 4,
    "widths": (128, 64),
    "attention": "shared",
    "attention_hidden": 64,
    "device": "cpu",
}


class Bags(NamedTuple):
    """One dataset."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    features: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]


class Outcome(NamedTuple):
    """What one setting came to in every fold."""

    val_losses: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64]


def read_bags(path: Path) -> Bags:
    """Read a table as `aml-mil store import --from table` does."""
    source = IMPORTERS["table"].open(path, ImportOptions())
    contents = {bag.bag_id: (bag.label or "", bag.load().features) for bag in source.bags}
    ids = tuple(sorted(contents))
    features = [np.asarray(contents[i][1], dtype=np.float32) for i in ids]
    sizes = [len(f) for f in features]
    return Bags(
        ids=ids,
        labels=tuple(contents[i][0] for i in ids),
        features=np.concatenate(features),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
    )


def make_roles(bags: Bags, *, partitions: int, folds: int) -> list[FoldRoles]:
    """Return the roles of every fold of every partition."""
    labels = dict(zip(bags.ids, bags.labels, strict=True))
    made = [make_folds(labels, num_folds=folds, seed=seed) for seed in range(partitions)]
    return [roles_of(fold_of, k) for fold_of in made for k in range(folds)]


def places(bags: Bags, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return where bags stand."""
    return np.array([bags.ids.index(i) for i in ids])


def cells_of(bags: Bags, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the instances of some bags."""
    return np.concatenate([bags.features[slice(*bags.offsets[i : i + 2])] for i in chosen])


def train_setting(bags: Bags, roles: Sequence[FoldRoles], config: FitConfig) -> Outcome:
    """Train one setting in all folds and test its heads."""
    classes = sorted(set(bags.labels))
    targets = np.array([classes.index(label) for label in bags.labels])
    resident = ResidentBags(
        [bags.features[None]],
        offsets=bags.offsets,
        targets=targets,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    replicates = []
    for fold, own in enumerate(roles):
        train, validation = places(bags, own.train), places(bags, own.validation)
        replicates.append(Replicate(fold=fold, seed=0, store=0, train=train, validation=validation))
    shape = HeadShape.of(config, feature_shape=bags.features.shape[1:], num_classes=len(classes))
    training = Training(replicates, resident, shape=shape, config=config)
    best = np.full(len(roles), np.inf)
    while training.is_running:
        for record in training.run_epoch():
            best[record.fold] = min(best[record.fold], record.val_loss)
    accuracies = [
        accuracy(head, shape, bags, targets, places(bags, own.test))
        for head, own in zip(training.heads, roles, strict=True)
    ]
    return Outcome(val_losses=best, accuracies=np.array(accuracies))


def accuracy(
    trained: TrainedHead,
    shape: HeadShape,
    bags: Bags,
    targets: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> float:
    """Return the share of test bags that a head calls right."""
    head = Head(shape).eval()
    head.load_state_dict(trained.parameters)
    with torch.no_grad():
        called = [
            head(torch.from_numpy(cells_of(bags, test[[i]]))).logits for i in range(len(test))
        ]
    return float((torch.stack(called).argmax(dim=1).numpy() == targets[test]).mean())


def run_dataset(path: Path, *, partitions: int, folds: int) -> Iterator[dict[str, Any]]:
    """Yield one record per setting, and last that of the chosen ones."""
    bags = read_bags(path)
    roles = make_roles(bags, partitions=partitions, folds=folds)
    outcomes = []
    for setting in SETTINGS:
        start = time.perf_counter()
        outcome = train_setting(bags, roles, FitConfig(**FIXED, **setting))
        outcomes.append(outcome)
        named = ", ".join(f"{name} {value}" for name, value in setting.items())
        yield summarise(named, outcome.accuracies, partitions, time.perf_counter() - start)
    chosen = np.argmin([o.val_losses for o in outcomes], axis=0)
    accuracies = np.array([o.accuracies for o in outcomes])[chosen, np.arange(len(chosen))]
    yield summarise("chosen by validation", accuracies, partitions, 0.0)


def summarise(
    setting: str, accuracies: npt.NDArray[np.float64], partitions: int, seconds: float
) -> dict[str, Any]:
    """Average over folds; the s.d. is over partitions, the s.e. over folds."""
    of_partitions = accuracies.reshape(partitions, -1).mean(axis=1)
    return {
        "setting": setting,
        "accuracy": float(accuracies.mean()),
        "sd": float(of_partitions.std()),
        "se": float(accuracies.std() / np.sqrt(len(accuracies))),
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the datasets, print their table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", default=",".join(PUBLISHED))
    parser.add_argument("--partitions", type=int, default=5)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in given.names.split(","):
        results[name] = []
        for record in run_dataset(
            given.folder / f"{name}.csv", partitions=given.partitions, folds=given.folds
        ):
            results[name].append(record)
            print(f"{name}, {record['setting']}: {record['accuracy']:.3f}", flush=True)
    rows = []
    for name, records in results.items():
        mean, spread = PUBLISHED.get(name, (float("nan"), float("nan")))
        rows += [
            [name, r["setting"], r["accuracy"], r["sd"], r["se"], f"{mean:.3f} ± {spread:.3f}"]
            for r in records
        ]
    headers = ["data", "setting", "accuracy", "s.d. partitions", "s.e. folds", "published"]
    print("\n" + tabulate(rows, headers=headers, floatfmt=".3f"))
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
