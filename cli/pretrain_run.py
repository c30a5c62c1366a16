"""Follow a pre-training run: progress, alarms, signals, summary."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.failure import CommandError
from cli.output import note, print_result
from cli.progress import with_bar
from cli.stopping import stop_signals

if TYPE_CHECKING:
    from aml_mil.ssl import PretrainConfig
    from aml_mil.ssl.pool import ImagePool, ImageSource
    from aml_mil.ssl.pretrain import PretrainRun
    from aml_mil.ssl.training_run import TrainingProgress, TrainingRun


def read_sources(sources: "tuple[ImageSource, ...]", config: "PretrainConfig") -> "ImagePool":
    """Read all images with a bar, and name the files that are left out."""
    from aml_mil.ranks import rank
    from aml_mil.ssl.pool import PoolReader

    reader = PoolReader(
        sources, side_px=config.source_size_px, max_bytes=int(config.cache_gib * 2**30)
    )
    records = reader.read()
    speaks = rank() == 0
    for record in with_bar(
        records,
        total=len(sources),
        unit="image",
        done="files_done",
        description="read",
        is_shown=speaks,
    ):
        if record.damaged and speaks:
            note(f"left out: {record.damaged[0]}: {record.damaged[1]}")
    return reader.pool()


def train(
    sources: "tuple[ImageSource, ...]",
    config: "PretrainConfig",
    out: Path,
    *,
    cohort: dict[str, Any],
    is_resumed: bool,
    as_json: bool,
) -> None:
    """Train from beginning to end, and say what came of it."""
    from aml_mil.processes import joined_processes
    from aml_mil.ranks import rank
    from aml_mil.ssl.pretrain import PretrainRun

    with joined_processes(config.device) as device:
        pool = read_sources(sources, config)
        run = PretrainRun(pool, config, out, device=device, cohort=cohort, is_resumed=is_resumed)
        follow(run, unit="image", name=run.method.name)
        if rank() == 0:
            _report(run, as_json=as_json)


def follow(run: "TrainingRun[Any]", *, unit: str, name: str) -> None:
    """Train with a bar, say the alarms, and end at a signal with the state saved."""
    from aml_mil.ranks import rank

    speaks = rank() == 0
    if run.is_done and speaks:
        note(f"{run.paths.encoder} is finished already: {run.length.epochs} epochs; nothing to do")
    total = run.length.num_steps * run.batch_size
    with stop_signals() as is_stopping:
        for record in with_bar(
            run.train(is_stopping),
            total=total,
            unit=unit,
            done="examples_done",
            description=name,
            is_shown=speaks,
        ):
            if speaks:
                _say_news(record)
            if record.is_stopped:
                raise CommandError(
                    f"stopped after step {run.steps_done} of {run.length.num_steps}; the state is "
                    f"in {run.paths.state}; the same command with --resume goes on"
                )


def _say_news(record: "TrainingProgress") -> None:
    if record.epoch is not None and record.epoch.loss is not None:
        knn = record.epoch.knn_accuracy
        known = "" if knn is None else f", kNN {knn:.3f}"
        logging.getLogger(__name__).info(
            "epoch %d: loss %.4f%s", record.epoch.epoch, record.epoch.loss, known
        )
    for alarm in record.alarms:
        note(f"warning: epoch {alarm.epoch}: {alarm.message}")


def _report(run: "PretrainRun", *, as_json: bool) -> None:
    last, trained_on = run.records[-1], run.pool.trained_on
    facts: dict[str, Any] = {
        "encoder": str(run.paths.encoder),
        "method": run.method.name,
        "patients": None if trained_on is None else len(trained_on),
        "images": len(run.pool),
        "damaged_files": len(run.pool.damaged),
        "epochs": last.epoch,
        "loss": last.loss,
        "loss_of_chance": last.chance_loss,
        "rankme": last.rankme,
        "knn_accuracy": last.knn_accuracy,
        "knn_accuracy_before": run.records[0].knn_accuracy,
        "images_per_s": last.images_per_s,
        "alarms": [alarm.kind for alarm in run.alarms],
        "history": str(run.paths.history),
    }
    print_result(facts, as_json=as_json)
