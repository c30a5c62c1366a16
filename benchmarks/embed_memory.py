"""Peak memory of `embed`, for a small cohort and for a large one with one huge patient.

    python -m benchmarks.embed_memory [--cells 100000] [--largest 20000] [--json FILE]

Four views of 512 numbers, as float16; the images are tiny and one file under many names, and the
encoder does next to nothing: what is measured is what waits in memory. Each run is a process of its
own; `peak_mib` is its largest memory (Linux), `start_mib` the one before the run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor, nn

from aml_mil.cohort import Cell, Cohort, Patient
from aml_mil.embedding import EmbedConfig, embed
from aml_mil.encoders import Encoder, EncoderModule
from benchmarks.many_patients import CLEAR_PEAK, memory_mib

SMALL_CELLS, CELLS_PER_PATIENT = 2_000, 500
SIZE_PX, DIM = 16, 512
FORMATS = ("zarr", "h5store")


class Cheap(EncoderModule):
    """One convolution of the pooled image."""

    def feature_map(self, images: Tensor) -> Tensor:
        """Average the image to one position, [B, 512, 1, 1]."""
        maps: Tensor = self.backbone(images.mean((2, 3), keepdim=True))
        return maps


def cheap_encoder() -> Encoder:
    """Make an encoder that costs nothing."""
    torch.manual_seed(0)
    return Encoder(
        name="cheap",
        architecture="torchvision/cheap",
        weights="random:0",
        weights_sha256="0" * 64,
        trained_on=(),
        module=Cheap(nn.Conv2d(3, DIM, 1)).eval(),
        image_size_px=SIZE_PX,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        feature_shape=(DIM,),
    )


def make_cohort(folder: Path, *, num_cells: int, largest: int) -> Cohort:
    """Name one image many times; the first patient has ``largest`` cells."""
    path = folder / "cell.png"
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    sizes = [largest] if largest else []
    sizes += [CELLS_PER_PATIENT] * ((num_cells - sum(sizes)) // CELLS_PER_PATIENT)
    patients = tuple(
        Patient(
            patient_id=f"P{number:05d}",
            label="AML",
            cells=tuple(Cell(instance_id=f"image_{i}.png", path=path) for i in range(size)),
        )
        for number, size in enumerate(sizes)
    )
    return Cohort(root=folder, patients=patients)


def run_alone(name: str, num_cells: int, largest: int) -> None:
    """Embed in this process, and print its memory."""
    config = EmbedConfig(engine="torch", precision="fp32", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        cohort = make_cohort(Path(folder), num_cells=num_cells, largest=largest)
        CLEAR_PEAK.write_text("5")
        start = memory_mib("VmRSS")
        deque(embed(cohort, cheap_encoder(), Path(folder) / f"a.{name}", config), maxlen=0)
    print(json.dumps({"start_mib": start, "peak_mib": memory_mib("VmHWM")}))


def measure(name: str, num_cells: int, largest: int) -> dict[str, float]:
    """Embed in a process of its own."""
    words = [name, str(num_cells), str(largest)]
    command = [sys.executable, "-m", "benchmarks.embed_memory", "--alone", *words]
    environment = {**os.environ}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--largest", type=int, default=20_000, help="cells of one patient of them")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.alone:
        run_alone(given.alone[0], int(given.alone[1]), int(given.alone[2]))
        return
    results = {}
    for name in FORMATS:
        small = measure(name, SMALL_CELLS, 0)
        large = measure(name, given.cells, given.largest)
        results[name] = {"small": small, "large": large}
        results[name]["more_mib"] = large["peak_mib"] - small["peak_mib"]
    rows = [
        [n, r["small"]["peak_mib"], r["large"]["peak_mib"], r["more_mib"]]
        for n, r in results.items()
    ]
    print(
        tabulate(
            rows,
            headers=["format", f"{SMALL_CELLS} cells, MiB", f"{given.cells} cells, MiB", "more"],
        )
    )
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
