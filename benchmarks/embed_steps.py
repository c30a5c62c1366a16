"""What `benchmarks.embed_throughput` measures: one function a step, each in its own process."""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

BATCH_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The same images for every step.

    Attributes:
        cohort: Folder or table.
        num_cells: At most so many, whole patients.
        encoder: Name of a model.
        weights: Its weights, as `--weights` takes them.
        views: identity or flips.
        root: Folder to write into.
        precision: Of ours and of its engine, as `--precision` takes it.
        compile: Of ours and of its engine, as `--compile`.
    """

    cohort: str
    num_cells: int
    encoder: str
    weights: str
    views: str
    root: str
    precision: str = "auto"
    compile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step took.

    Attributes:
        images: Encoded, all views of a cell as one; or decoded.
        seconds: Of wall clock, once everything is ready.
        cpu_ms: Of all cores and processes together, for an image.
        start_up_s: Imports, encoder and engine.
        engine: What encoded.
        peak_mib: Of the main process.
    """

    images: int
    seconds: float
    cpu_ms: float
    start_up_s: float
    engine: str = ""
    peak_mib: float = 0

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def take_cohort(job: Job) -> Any:
    """Read the cohort and keep its first patients."""
    from aml_mil.cohort import read_cohort

    cohort = read_cohort(job.cohort)
    kept, total = [], 0
    for patient in cohort.patients:
        if total >= job.num_cells:
            break
        kept.append(patient)
        total += len(patient.cells)
    return replace(cohort, patients=tuple(kept))


def load(job: Job) -> Any:
    """Load the encoder."""
    from aml_mil.encoders import load_encoder

    return load_encoder(job.encoder, weights=job.weights)


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def field_loop(job: Job) -> Measured:
    """As published loops do it: PIL, a DataLoader for each patient, float32, NCHW, eager."""
    began = time.perf_counter()
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import transforms

    from aml_mil.runtime import count_cores

    cohort, encoder = take_cohort(job), load(job)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(encoder.mean, encoder.std)]
    )

    class Images(torch.utils.data.Dataset[torch.Tensor]):
        def __init__(self, paths: list[Path]) -> None:
            self.paths = paths

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = Image.open(self.paths[index]).convert("RGB")
            if image.size != (encoder.image_size_px,) * 2:
                image = image.resize((encoder.image_size_px,) * 2)
            return transform(image)

    flips: dict[str, list[tuple[int, ...]]] = {
        "identity": [()],
        "flips": [(), (3,), (2,), (2, 3)],
    }
    ready, cpu_start, images = time.perf_counter(), cpu_seconds(), 0
    with torch.no_grad():
        for patient in cohort.patients:
            paths = [cell.path for cell in patient.cells if _is_whole(cell.path)]
            loader = torch.utils.data.DataLoader(
                Images(paths), batch_size=BATCH_SIZE, num_workers=count_cores()
            )
            features = [
                torch.stack([encoder.module(batch.flip(axes)) for axes in flips[job.views]])
                for batch in loader
            ]
            np.save(Path(job.root) / f"{patient.patient_id}.npy", torch.cat(features, 1).numpy())
            images += len(paths)
    return _measured(images, ready=ready, cpu_start=cpu_start, began=began, engine="torch")


def ours(job: Job) -> Measured:
    """`aml-mil embed` with its default settings, down to the committed store."""
    began = time.perf_counter()
    from aml_mil.embedding import EmbedConfig, embed

    cohort, encoder = take_cohort(job), load(job)
    store = Path(job.root) / f"ours-{time.time_ns()}.zarr"
    config = EmbedConfig(views=job.views, precision=job.precision, compile=job.compile)  # type: ignore[arg-type]
    run = embed(cohort, encoder, store, config)
    records = iter(run)
    first = next(records)
    cpu_start = cpu_seconds()
    last = first
    for last in records:  # noqa: B007
        pass
    cpu_ms = (cpu_seconds() - cpu_start) / max(last.cells_done - first.cells_done, 1) * 1e3
    ended, summary = time.perf_counter(), run.summary
    # The engine is built before the pass that images_per_s times, as for the other steps.
    seconds = summary.cells_embedded / summary.images_per_s
    return Measured(
        images=summary.cells_embedded,
        seconds=seconds,
        cpu_ms=cpu_ms,
        start_up_s=ended - began - seconds,
        engine=f"{summary.engine}{' compiled' * job.compile} {summary.compute_dtype}",
    )


def decode_alone(job: Job) -> Measured:
    """Read, hash, decode and fit, as `embed` does, by as many workers, and nothing else."""
    began = time.perf_counter()
    from aml_mil.embedding.cells import load_cells
    from aml_mil.embedding.config import EmbedConfig

    pairs = [(p, cell) for p in take_cohort(job).patients for cell in p.cells]
    ready, cpu_start = time.perf_counter(), cpu_seconds()
    workers = EmbedConfig().num_workers
    for _ in load_cells(
        pairs, image_size_px=144, workers=workers, lookahead=2 * BATCH_SIZE + workers
    ):
        pass
    return _measured(len(pairs), ready=ready, cpu_start=cpu_start, began=began)


def engine_alone(job: Job) -> Measured:
    """The engine that `embed` takes, on images that lie in memory."""
    return _encode_resident(job, lambda numerics: numerics)


def other_engine(job: Job) -> Measured:
    """The other engine, on the same images: a yardstick that is not ours."""

    def other(numerics: Any) -> Any:
        if numerics.device.type == "cuda":
            return replace(numerics, is_compiled=not numerics.is_compiled)
        engine = "openvino" if numerics.engine == "torch" else "torch"
        return replace(numerics, engine=engine, is_compiled=False)

    return _encode_resident(job, other)


def _encode_resident(job: Job, choose: Callable[[Any], Any]) -> Measured:
    began = time.perf_counter()
    import numpy as np

    from aml_mil.embedding.building import build_engine
    from aml_mil.embedding.config import EmbedConfig
    from aml_mil.embedding.numerics import choose_numerics
    from aml_mil.embedding.views import VIEW_SETS

    encoder, images = load(job), np.stack(list(_first_images(job)))
    views = VIEW_SETS[job.views]  # type: ignore[index]
    num_cells = sum(len(patient.cells) for patient in take_cohort(job).patients)
    config = EmbedConfig(precision=job.precision, compile=job.compile)  # type: ignore[arg-type]
    numerics = choose(choose_numerics(config, encoder, num_encodings=num_cells * len(views)))
    engine = build_engine(
        numerics,
        encoder,
        views=views,
        calibration=images if numerics.precision == "int8" else None,
    )
    engine.encode(images)
    num_batches = max(num_cells // BATCH_SIZE, 1)
    ready, cpu_start = time.perf_counter(), cpu_seconds()
    for _ in range(num_batches):
        engine.encode(images)
    return _measured(
        num_batches * len(images),
        ready=ready,
        cpu_start=cpu_start,
        began=began,
        engine=f"{numerics.engine}{' compiled' * numerics.is_compiled} {numerics.precision}",
    )


def _first_images(job: Job) -> Iterator[Any]:
    from aml_mil.embedding.cells import load_cell

    pairs = [(p, cell) for p in take_cohort(job).patients for cell in p.cells]
    loaded = (load_cell(*pair, image_size_px=144).image for pair in pairs[: 2 * BATCH_SIZE])
    whole = [image for image in loaded if image is not None]
    for i in range(BATCH_SIZE):
        yield whole[i % len(whole)]


def _is_whole(path: Path) -> bool:
    """Whether it ends as its format does: published loops stop at the first truncated file."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return True
    with path.open("rb") as file:
        file.seek(-2, 2)
        return file.read() == b"\xff\xd9"


def _measured(
    images: int, *, ready: float, cpu_start: float, began: float, engine: str = ""
) -> Measured:
    seconds = time.perf_counter() - ready
    cpu_ms = (cpu_seconds() - cpu_start) / images * 1e3
    return Measured(
        images=images, seconds=seconds, cpu_ms=cpu_ms, start_up_s=ready - began, engine=engine
    )


STEPS: dict[str, Callable[[Job], Measured]] = {
    "field": field_loop,
    "ours": ours,
    "engine": engine_alone,
    "other engine": other_engine,
    "decode": decode_alone,
}


def run_step(name: str, job: Job) -> dict[str, Any]:
    """Do a step in this process; gives `Measured` with the peak memory."""
    measured = STEPS[name](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return asdict(replace(measured, peak_mib=round(peak)))
