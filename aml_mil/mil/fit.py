"""Train and evaluate the heads of runs: every fold, seed and encoder, from store to run folder."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_mil.mil import run_dir
from aml_mil.mil.checkpoint import CHECKPOINT_FILE, kept_runs
from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import EpochRecord
from aml_mil.mil.errors import FitError, RunExistsError
from aml_mil.mil.inputs import run_name
from aml_mil.mil.leakage import Leakage
from aml_mil.mil.plan import FitPlan, Folds, make_plans
from aml_mil.mil.program import Program, train
from aml_mil.mil.run_dir import is_finished, start_run
from aml_mil.runtime import resolve_device


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSummary:
    """What a fit came to.

    Attributes:
        run_dir: Where the run is.
        is_new: False if the folder held this very run already, finished.
        num_patients: Patients.
        num_cells: Cells.
        num_replicates: Heads, folds x seeds.
        leakage: Whether an encoder has seen test patients; see ``check_leakage``.
        train_s: Seconds of training and validation; 0 if there was nothing to do.
        metrics: The run's metrics.json.
    """

    run_dir: Path
    is_new: bool
    num_patients: int
    num_cells: int
    num_replicates: int
    leakage: Leakage
    train_s: float
    metrics: Mapping[str, Any]


def fit(
    store: str | Path,
    *,
    out_dir: str | Path,
    config: FitConfig | None = None,
    folds: Folds | None = None,
    allow_transductive: bool = False,
) -> Generator[EpochRecord | FitSummary]:
    """Train every fold and seed on a store, evaluate them, and write the run folder.

    Everything that can be refused is refused before this returns; training happens while the
    result is iterated. A run that was interrupted goes on; closing the result between two epochs
    keeps all of them.

    Args:
        store: Path of the store; ``{fold}`` in it stands for the fold, one store per fold.
        out_dir: The run folder.
        config: Protocol, head and training; the recipe's if not given.
        folds: Fold of every patient, or the patients' roles per fold; made from the config's
            ``num_folds`` and ``fold_seed`` if not given, and taking the place of ``num_folds`` if
            given.
        allow_transductive: Whether an encoder may have seen test patients.

    Yields:
        One record per replicate and epoch, then the summary.

    Raises:
        FitError: The stores, their encoders or the run folder do not allow it.
        StoreError: A store cannot be read.
        FoldsError: The folds are not of these patients, or a label is too rare for them.
    """
    plans = make_plans(
        [store], config=config or FitConfig(), folds=folds, allow_transductive=allow_transductive
    )
    return _fit(plans, [Path(out_dir)], out_dir=Path(out_dir))


def fit_encoders(
    stores: Sequence[str | Path],
    *,
    out_dir: str | Path,
    config: FitConfig | None = None,
    folds: Folds | None = None,
    allow_transductive: bool = False,
) -> Generator[EpochRecord | FitSummary]:
    """Train every encoder, fold and seed in one program, and write one run folder per encoder.

    Args:
        stores: Paths of the stores, as ``fit`` takes one; of the same patients, cells, views and
            feature shape.
        out_dir: Where the run folders go, each named as its store without suffix and ``{fold}``.
        config: As ``fit``'s.
        folds: As ``fit``'s.
        allow_transductive: As ``fit``'s.

    Yields:
        One record per replicate and epoch, then one summary per encoder.

    Raises:
        FitError: As ``fit``, or two stores have the same name.
        StoreError: A store cannot be read.
        FoldsError: As ``fit``.
    """
    names = [run_name(store) for store in stores]
    if len(set(names)) < len(names) or not all(names):
        raise FitError(
            f"expected stores of different names, which their runs take, got {', '.join(names)}; "
            "fit them into folders of their own"
        )
    plans = make_plans(
        stores, config=config or FitConfig(), folds=folds, allow_transductive=allow_transductive
    )
    return _fit(plans, [Path(out_dir) / name for name in names], out_dir=Path(out_dir))


def _fit(
    plans: Sequence[FitPlan], paths: Sequence[Path], *, out_dir: Path
) -> Generator[EpochRecord | FitSummary]:
    """Sort out which runs are finished; the result trains the others."""
    resolve_device(plans[0].config.device)
    if out_dir.exists() and not out_dir.is_dir():
        raise RunExistsError(f"expected a folder at {out_dir}, got a file; name another")
    runs = list(zip(plans, paths, strict=True))
    kept = kept_runs(out_dir / CHECKPOINT_FILE)
    finished = [is_finished(path, plan.to_json(), kept=kept) for plan, path in runs]
    unfinished = [run for run, done in zip(runs, finished, strict=True) if not done]
    for plan, path in unfinished:
        start_run(path, plan.to_json())
    program = Program(
        plans=[plan for plan, _ in unfinished],
        paths=[path for _, path in unfinished],
        checkpoint_path=out_dir / CHECKPOINT_FILE,
    )
    return _train(program, runs)


def _train(
    program: Program, runs: Sequence[tuple[FitPlan, Path]]
) -> Generator[EpochRecord | FitSummary]:
    """Train what is to be trained and sum up all runs."""
    train_s = 0.0
    if program.plans:
        with closing(train(program)) as records:
            for record in records:
                if isinstance(record, EpochRecord):
                    yield record
                else:
                    train_s = record
    for plan, path in runs:
        yield _summary(plan, path, train_s=train_s if plan in program.plans else None)


def _summary(plan: FitPlan, path: Path, *, train_s: float | None = None) -> FitSummary:
    return FitSummary(
        run_dir=path,
        is_new=train_s is not None,
        num_patients=len(plan.inputs.labels),
        num_cells=int(plan.inputs.offsets[-1]),
        num_replicates=plan.config.num_folds * plan.config.seeds,
        leakage=plan.leakage,
        train_s=train_s or 0.0,
        metrics=run_dir.open_run(path).metrics,
    )
