"""What a fit-mil run is told: every value of the recipe, with the source it comes from."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

Precision = Literal["fp64", "fp32", "bf16", "fp16"]
Attention = Literal["class", "shared", "gated"]
Pool = Literal["attention", "mean", "max"]
Sampling = Literal["balanced", "natural"]
LARGEST_WIDTH = 65_536
CHOICES = {"attention": Attention, "pool": Pool, "sampling": Sampling, "precision": Precision}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Set the protocol, the head and its training.

    Sources: P is Kazeminia, Joosten et al. (arXiv 2403.05379), H is Hehr et al. (PLOS Digital
    Health 2023) and its public code. Where P is silent, H fills in.

    Attributes:
        num_folds: Stratified folds, 3 or more; test = k, validation = k + 1, training = the rest.
            Given splits are counted. Source: P.
        fold_seed: Seed of the folds where none are given. Source: ours.
        seeds: Heads trained per fold, from seeds 0, 1, … Source: P (three).
        epochs: Longest training; an epoch draws as many bags as there are training patients.
            Source: P.
        patience: Epochs without a better validation loss after which a head stops; the weights of
            its best epoch are kept. Source: P.
        lr: Learning rate of the first epoch, annealed by a cosine per epoch. Source: P.
        momentum: Nesterov momentum of SGD, 0 ≤ momentum < 1. Source: P (Nesterov), H (0.9).
        accumulate: Bags whose gradients are summed into one step; the last bags of an epoch make a
            shorter step. Source: P.
        standardize: Bring each feature to mean 0 and s.d. 1 over a fold's training cells;
            not the recipe's, and it wants a smaller lr. Source: ours.
        sampling: balanced draws bags with replacement, each class equally often; natural takes
            every training patient once, in a new order each epoch. Source: P (balanced).
        max_cells: Cells of a training bag, redrawn each time; every other use takes all. Source: P.
        dropout: Share of a training cell's reduced features set to 0, 0 ≤ dropout < 1; the others
            are scaled up. Source: ours (none in P).
        widths: Outputs of the four reducing convolutions. Source: group's public heads, last ours.
        pool: How a patient's cells become one vector: weighed by attention, by their mean, or by
            the maximum of each feature. Source: P (attention).
        attention: One per class, one shared by all classes, or a shared one with a gate.
            Source: P (class), Ilse et al. 2018 (shared, gated).
        attention_hidden: Hidden units of the attention. Source: H.
        classifier_hidden: Hidden units of each class's classifier. Source: H.
        precision: Number format of the large matrix products; weights, sums, softmax and the
            optimiser stay in fp32 under bf16 and fp16. Source: ours.
        device: auto takes CUDA where there is one, else the CPU; or a device as torch names them.
            Source: ours.

    Raises:
        ValueError: A value is outside its range.
    """

    num_folds: int = 5
    fold_seed: int = 0
    seeds: int = 3
    epochs: int = 50
    patience: int = 20
    lr: float = 0.015
    momentum: float = 0.9
    accumulate: int = 10
    standardize: bool = False
    sampling: Sampling = "balanced"
    max_cells: int = 500
    dropout: float = 0.0
    widths: tuple[int, ...] = (300, 200, 150, 100)
    pool: Pool = "attention"
    attention: Attention = "class"
    attention_hidden: int = 128
    classifier_hidden: int = 64
    precision: Precision = "fp32"
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        for name, largest in _LARGEST.items():
            if not 1 <= (value := getattr(self, name)) <= largest:
                raise ValueError(f"{name}: expected 1 to {largest}, got {value}")
        if not self.widths or not 1 <= min(self.widths) <= max(self.widths) <= LARGEST_WIDTH:
            raise ValueError(
                f"widths: expected numbers from 1 to {LARGEST_WIDTH}, got {self.widths}"
            )
        for name, choices in CHOICES.items():
            if (choice := getattr(self, name)) not in get_args(choices):
                raise ValueError(
                    f"{name}: expected one of {', '.join(get_args(choices))}, got {choice!r}"
                )
        self._check_training()
        self._check_effects()

    def _check_training(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr: expected a positive number, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected 0 ≤ momentum < 1, got {self.momentum}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 ≤ dropout < 1, got {self.dropout}")
        if not 0 <= self.fold_seed < 2**32:
            raise ValueError(f"fold_seed: expected 0 to 4294967295, got {self.fold_seed}")

    def _check_effects(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in self.idle_settings:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name}: has no effect with pool {self.pool}; leave it out")

    @property
    def idle_settings(self) -> tuple[str, ...]:
        """Names of the settings that have no effect beside the others."""
        return () if self.pool == "attention" else ("attention", "attention_hidden")

    def to_json(self) -> dict[str, object]:
        """Return the settings as JSON values, in the order they are declared."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"widths": list(self.widths)}


_LARGEST = {
    "num_folds": 10_000,
    "seeds": 10_000,
    "epochs": 1_000_000,
    "patience": 1_000_000,
    "accumulate": 1_000_000,
    "max_cells": 1_000_000_000,
    "attention_hidden": LARGEST_WIDTH,
    "classifier_hidden": LARGEST_WIDTH,
}
