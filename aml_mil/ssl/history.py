"""The course of a run: a table and a picture."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aml_mil.files import write_file
from aml_mil.ssl.collapse import Alarm, Health

INK = "#1b1b1b"
ACCENT = "#0b6e99"
PANELS = (
    ("loss", "loss, nats"),
    ("rankme", "RankMe, dimensions"),
    ("spread", "spread of projections"),
    ("perplexity", "prototypes in use"),
    ("knn_accuracy", "kNN cell-type accuracy"),
    ("lr", "learning rate"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One row of the history; row 0 is measured before training.

    Attributes:
        epoch: Epochs done.
        lr: Learning rate of the last step; None before training.
        loss: Mean over the epoch, in nats; None before training.
        chance_loss: Loss of a network that tells nothing apart.
        rankme: Effective dimensions of the encoder's features.
        spread: Of the projections, see `spread_on_sphere`.
        perplexity: Prototypes or outputs in use.
        knn_accuracy: Cell types by neighbours from other patients.
        seconds: Training time of the epoch, without measuring and saving.
        images_per_s: Source images a second, over all processes; patients where it is patients
            that a run learns from.
        alarms: Kinds of alarms, separated by spaces.
    """

    epoch: int
    lr: float | None
    loss: float | None
    chance_loss: float
    rankme: float
    spread: float | None
    perplexity: float | None
    knn_accuracy: float | None
    seconds: float | None
    images_per_s: float | None
    alarms: str


def record_epoch(
    health: Health,
    *,
    epoch: int,
    lr: float | None = None,
    seconds: float | None = None,
    examples: int = 0,
    alarms: tuple[Alarm, ...] = (),
) -> EpochRecord:
    """Make a row of what was measured.

    Args:
        health: Measured after the epoch; with an infinite loss before the first.
        epoch: Epochs done.
        lr: Of the last step.
        seconds: Training time.
        examples: Images or patients seen in that time.
        alarms: Raised by it.
    """
    return EpochRecord(
        epoch=epoch,
        lr=lr,
        loss=health.loss if math.isfinite(health.loss) else None,
        chance_loss=health.chance_loss,
        rankme=health.rankme,
        spread=health.spread,
        perplexity=health.perplexity,
        knn_accuracy=health.knn_accuracy,
        seconds=seconds,
        images_per_s=examples / seconds if seconds else None,
        alarms=" ".join(alarm.kind for alarm in alarms),
    )


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write the table; what was not measured is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    write_file(path, text.getvalue().encode())


def plot_history(path: Path, records: Sequence[EpochRecord], *, title: str) -> None:
    """Draw what was measured over the epochs.

    Args:
        path: Ends in .png.
        records: In order of the epochs.
        title: Stands above.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    panels = [
        (name, label)
        for name, label in PANELS
        if any(getattr(record, name) is not None for record in records)
    ]
    axes = figure.subplots(2, 3).flat
    for axis, (name, label) in zip(axes, panels, strict=False):
        points = [(r.epoch, getattr(r, name)) for r in records if getattr(r, name) is not None]
        axis.plot(*zip(*points, strict=True), color=ACCENT, marker="o", markersize=3, linewidth=1.4)
        axis.set_title(label, fontsize=10, color=INK, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    for axis in list(figure.axes)[len(panels) :]:
        axis.set_visible(False)
    figure.axes[0].axhline(records[-1].chance_loss, color=INK, linewidth=0.8, linestyle=":")
    figure.axes[0].annotate(
        "tells nothing apart", (0, records[-1].chance_loss), fontsize=7, va="bottom", color=INK
    )
    figure.supxlabel("epoch", fontsize=9, color=INK)
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_file(path, image.getvalue())
