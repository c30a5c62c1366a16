"""Cell types by nearest neighbours: a fold's test patients query its training patients.

    python -m benchmarks.pretrain_knn COHORT --folds FILE --fold K ENCODER.safetensors…
        [--json FILE]

Beside each encoder stand the random encoder of its architecture and image size on the same cells,
with the difference and its 95% interval (test patients resampled), and the mean RGB of the cells:
an encoder that has learnt colour only is no better than that. `by_patient` counts every patient
alike: one with many cells of a type may decide the share of all cells by itself.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from tabulate import tabulate
from torch import Tensor

from aml_mil.cohort import fit_image, read_folds, roles_of
from aml_mil.encoders import Encoder, load_encoder
from aml_mil.neighbours import predict_by_neighbours
from aml_mil.runtime import has_native_bf16
from aml_mil.ssl.monitor import encode
from aml_mil.ssl.pool import ImagePool, find_sources, only_labelled, read_pool

NUM_DRAWS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of features.

    Attributes:
        features: Encoder, or what else.
        accuracy: Share of the test patients' cells named correctly.
        balanced: Mean over cell types.
        gain: Over the random encoder on the same cells.
        low: Of the 95% interval of the gain.
        high: Of the interval.
        by_patient: Mean over the test patients of their shares.
        by_patient_gain: Over the random encoder.
        by_patient_low: Of the 95% interval of that gain.
        by_patient_high: Of the interval.
    """

    features: str
    accuracy: float
    balanced: float
    gain: float
    low: float
    high: float
    by_patient: float
    by_patient_gain: float
    by_patient_low: float
    by_patient_high: float


class Gain(NamedTuple):
    """A difference of accuracies, and its 95% interval."""

    mean: float
    low: float
    high: float


class Split:
    """Annotated cells of a fold: training patients are the bank, test patients ask."""

    def __init__(self, cohort: Path, folds_path: Path, fold: int) -> None:
        roles = roles_of(read_folds(folds_path), fold)
        self.bank, self.query = (
            read_pool(
                only_labelled(find_sources(cohort, patients=patients)),
                side_px=144,
                max_bytes=2**34,
            )
            for patients in (roles.train, roles.test)
        )
        self.truth = [source.cell_type for source in self.query.sources]
        self.patients = [source.patient_id for source in self.query.sources]

    def predict(self, bank: Tensor, query: Tensor) -> list[str]:
        """Name the test patients' cells."""
        return predict_by_neighbours(
            query,
            bank,
            [source.cell_type for source in self.bank.sources],
            query_patients=self.patients,
            bank_patients=[source.patient_id for source in self.bank.sources],
        )

    def row(self, name: str, predicted: list[str], baseline: list[str]) -> Row:
        """Compare predictions with the truth and with a baseline's."""
        correct, before = self._correct(predicted), self._correct(baseline)
        _, index, counts = np.unique(self.patients, return_inverse=True, return_counts=True)
        alike = 1 / counts[index]
        by_cell, by_patient = (
            paired_gain(correct, before, self.patients, weights=weights, num_draws=NUM_DRAWS)
            for weights in (np.ones(len(correct)), alike)
        )
        # A type that only the neighbours have does not lower the mean over the true types.
        seen = [guess if guess in set(self.truth) else self.truth[0] for guess in predicted]
        return Row(
            features=name,
            accuracy=float(correct.mean()),
            balanced=float(balanced_accuracy_score(self.truth, seen)),
            gain=by_cell.mean,
            low=by_cell.low,
            high=by_cell.high,
            by_patient=float(np.average(correct, weights=alike)),
            by_patient_gain=by_patient.mean,
            by_patient_low=by_patient.low,
            by_patient_high=by_patient.high,
        )

    def _correct(self, predicted: list[str]) -> NDArray[np.bool_]:
        return np.array([a == b for a, b in zip(predicted, self.truth, strict=True)])


def features_of(encoder: Encoder, pool: ImagePool) -> Tensor:
    """Encode all images of a pool, normalised as the encoder was trained."""
    size_px = encoder.image_size_px
    images = np.stack([fit_image(pool.image(i), size_px) for i in range(len(pool))])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_native_bf16()):
        return encode(
            encoder.module,
            torch.from_numpy(images),
            device=torch.device("cpu"),
            mean=encoder.mean,
            std=encoder.std,
        )


def mean_colour(pool: ImagePool) -> Tensor:
    """Average each image's RGB, centred so that the cosine tells colours apart."""
    means = np.stack([pool.image(i).mean((0, 1)) for i in range(len(pool))])
    return torch.from_numpy(means - 128)


def paired_gain(
    correct: NDArray[np.bool_],
    baseline: NDArray[np.bool_],
    patients: Sequence[str],
    *,
    weights: NDArray[np.float64],
    num_draws: int,
) -> Gain:
    """Compare two accuracies on the same cells; resample patients for the interval.

    Args:
        correct: Whether each cell is right.
        baseline: The same for what it is compared with.
        patients: Of each cell; drawn with replacement, with all their cells.
        weights: What each cell counts.
        num_draws: Bootstrap draws.
    """
    names, index = np.unique(patients, return_inverse=True)
    sizes = np.bincount(index, weights)
    gains = np.bincount(index, weights * (correct.astype(float) - baseline))
    draws = np.random.default_rng(0).integers(len(names), size=(num_draws, len(names)))
    differences = gains[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.percentile(differences, [2.5, 97.5])
    return Gain(mean=float(gains.sum() / sizes.sum()), low=float(low), high=float(high))


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    split = Split(options.cohort, options.folds, options.fold)
    baselines: dict[tuple[str, int], list[str]] = {}
    rows: list[Row] = []
    for name in options.encoders:
        encoder = load_encoder(name)
        key = encoder.architecture.removeprefix("timm/"), encoder.image_size_px
        if key not in baselines:
            random = load_encoder(key[0], weights="random:0", image_size_px=key[1])
            baselines[key] = split.predict(
                features_of(random, split.bank), features_of(random, split.query)
            )
            rows.append(split.row(f"random {key[0]} {key[1]} px", baselines[key], baselines[key]))
            colour = split.predict(mean_colour(split.bank), mean_colour(split.query))
            rows.append(split.row("mean RGB", colour, baselines[key]))
        predicted = split.predict(
            features_of(encoder, split.bank), features_of(encoder, split.query)
        )
        rows.append(split.row(Path(name).stem, predicted, baselines[key]))
    print(f"{len(split.query)} cells of fold {options.fold}'s test patients ask {len(split.bank)}")
    print(tabulate([asdict(row) for row in rows], headers="keys", floatfmt=".3f"))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
