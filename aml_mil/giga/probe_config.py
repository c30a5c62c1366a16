"""Settings of a probe: folds, shares of the labels, and how heads are trained beside it."""

import dataclasses
from dataclasses import dataclass

from aml_mil.cohort.folds import MIN_FOLDS
from aml_mil.mil.config import FitConfig
from stores import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """What to compare, and on how many labels.

    Sources: G is Lazard et al. (arXiv 2212.03273).

    Attributes:
        num_folds: Stratified folds; test = k, validation = k + 1, training = the rest.
        fold_seed: Seed of the folds where none are given.
        percents: Shares of the labels of training and validation patients.
        draws: Draws of labels for each share below 100. Source: G.
        giga_draws: Draws of cells averaged for an embedding. Source: G.
        seed: Of the draws.
        mil: Train heads as fit-mil does on the same labels, too.
        mil_epochs: Longest training of those heads.
        mil_lr: Learning rate of their first epoch.
        mil_standardize: Bring the features to mean 0 and s.d. 1 for them.
        resamples: Of the bootstrap over test patients.
        device: auto is CUDA where there is one.

    Raises:
        ValueError: A value is outside its range.
    """

    num_folds: int = 5
    fold_seed: int = 0
    percents: tuple[int, ...] = (5, 10, 25, 50, 100)
    draws: int = 10
    giga_draws: int = 50
    seed: int = 0
    mil: bool = True
    mil_epochs: int = 50
    mil_lr: float = 0.015
    mil_standardize: bool = False
    resamples: int = 1000
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "percents", tuple(self.percents))
        if not self.percents or min(self.percents) < 1 or max(self.percents) > 100:
            raise ValueError(f"percents: expected shares from 1 to 100, got {self.percents}")
        if list(self.percents) != sorted(set(self.percents)):
            raise ValueError(f"percents: expected rising shares, got {self.percents}")
        for name in ("draws", "giga_draws", "resamples"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")
        if self.num_folds < MIN_FOLDS:
            raise ValueError(f"num_folds: expected {MIN_FOLDS} or more, got {self.num_folds}")
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        self.fit_config(device="cpu")

    def fit_config(self, *, device: str) -> FitConfig:
        """Return the settings of the heads.

        Raises:
            ValueError: One is outside its range.
        """
        return FitConfig(
            num_folds=self.num_folds,
            fold_seed=self.fold_seed,
            seeds=1,
            epochs=self.mil_epochs,
            lr=self.mil_lr,
            standardize=self.mil_standardize,
            device=device,
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the settings as JSON values, in the order they are declared."""
        return dataclasses.asdict(self) | {"percents": list(self.percents)}
