"""A store of very many patients: opened, listed, counted, resumed and packed; time and memory.

    python -m benchmarks.many_patients [--patients 100000] [--cells 4]
        [--folder DIR] [--json FILE]

The patients are copies of one under other names: a bag folder of its own each, with a commit record
of its own, whose file of arrays is a hard link, as are the images. What grows with the number of
patients is therefore real (folders, records, ids, fingerprints), and making them takes seconds.
`resume` is a whole run of `embed` that finds nothing to do, and checks every file and every bag.
`grown_mib` is how far the memory of the process grew at most during a step (Linux).
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate

from aml_mil.cohort import Cell, Cohort, Patient
from aml_mil.embedding import EmbedConfig, embed
from aml_mil.encoders import load_encoder
from stores import open_store, pack_bags, store_info
from stores.admission import admit
from stores.bag_folder import commit_contents
from stores.names import encode_bag_id

MAX_LINKS = 60_000  # ext4 knows 65,000 of a file
CLEAR_PEAK = Path("/proc/self/clear_refs")  # "5" written there forgets the largest memory so far
CONFIG = EmbedConfig(
    views="identity", engine="torch", precision="fp32", device="cpu", batch_size=16
)


def memory_mib(name: str) -> float:
    """Read what the system says of the memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024


def draw_patient(folder: Path, *, num_cells: int) -> Patient:
    """Draw the cells of one patient."""
    generator = np.random.default_rng(0)
    cells = []
    for number in range(num_cells):
        path = folder / f"image_{number}.png"
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        cells.append(Cell(instance_id=path.name, path=path))
    return Patient(patient_id="P0000000", label="AML", cells=tuple(cells))


def multiply(path: Path, *, num_patients: int) -> None:
    """Give the one bag of a store many other names."""
    with open_store(path) as store:
        [first] = store.bag_ids
        bag = store.read(first)
        arrays = admit(bag, store.manifest)
        image = store.layout.build_image(first, arrays)
        file = path / "bags" / first / f"{first}.h5"
        for number in range(1, num_patients):
            name = encode_bag_id(f"P{number:07d}")
            image = rename(image, name)
            contents = commit_contents(
                replace(bag, bag_id=f"P{number:07d}"), arrays, image, store.manifest
            )
            folder = path / "bags" / name
            folder.mkdir()
            if number % MAX_LINKS:
                os.link(file, folder / f"{name}.h5")
            else:
                file = Path(shutil.copyfile(file, folder / f"{name}.h5"))
            (folder / "bag.json").write_bytes(contents["bag.json"])


def rename(image: Any, name: str) -> Any:
    """Give the one file of a bag, and the places in it, another name."""
    [data] = image.files.values()
    places = {key: replace(place, path=f"{name}.h5") for key, place in image.places.items()}
    return replace(image, files={f"{name}.h5": data}, places=places)


def run(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure every step."""
    steps: dict[str, dict[str, float]] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        CLEAR_PEAK.write_text("5")
        before, clock, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
        found = work()
        steps[name] = {
            "seconds": time.perf_counter() - clock,
            "cpu_s": time.process_time() - cpu,
            "grown_mib": memory_mib("VmHWM") - before,
        }
        print(f"{name}: {steps[name]['seconds']:.1f} s", flush=True)
        return found

    encoder = load_encoder("test_resnet", weights="random:0", image_size_px=32)
    first = draw_patient(folder, num_cells=given.cells)
    path = folder / "many.h5store"
    alone = Cohort(root=folder, patients=(first,))
    deque(embed(alone, encoder, path, CONFIG), maxlen=0)
    step("make", lambda: multiply(path, num_patients=given.patients))
    store = step("open", lambda: open_store(path))
    ids = step("list", lambda: store.bag_ids)
    told = step("info", lambda: store_info(store))
    packed = step("pack", lambda: pack_bags(store))
    assert len(ids) == told["num_bags"] == packed.num_bags == given.patients
    assert np.array_equal(packed.features[:, -given.cells :], packed.features[:, : given.cells])
    size = packed.features.nbytes
    del packed
    cohort = Cohort(root=folder, patients=tuple(replace(first, patient_id=name) for name in ids))
    resumed = embed(cohort, encoder, path, CONFIG)
    step("resume", lambda: deque(resumed, maxlen=0))
    summary = resumed.summary
    assert (summary.patients_embedded, summary.patients_skipped) == (0, given.patients)
    assert not summary.needs_attention
    return {"patients": given.patients, "feature_bytes": size, "steps": steps}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=4, help="of each patient")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        result = run(Path(name), given)
    rows = [
        [name, step["seconds"], 1e6 * step["cpu_s"] / given.patients, step["grown_mib"]]
        for name, step in result["steps"].items()
    ]
    headers = ["step", "seconds", "CPU us a patient", "grown MiB"]
    print(tabulate(rows, headers=headers, floatfmt=".4g"))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
