"""Time and memory of import, fit and export on a CLAM-like folder, beside a plain copy of it.

    python -m benchmarks.interchange [--bags 200] [--instances 1000] [--features 1024] [--json FILE]

The folder is made on the fly: random float32 features with a trace of the label. Each step runs in
a process of its own, so that its peak memory is its own; what Python, NumPy and torch need before
any work is printed beside it. Caches are warm, everything lies on one disk.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

FOLDER, STORE, BACK, COPY, RUN = "clam", "clam.zarr", "back", "copy", "run"
COPY_BLOCK_BYTES = 2**20


def make_folder(root: Path, *, bags: int, instances: int, features: int) -> None:
    """Write ``h5_files`` and the labels as CLAM does."""
    rng = np.random.default_rng(0)
    (root / FOLDER / "h5_files").mkdir(parents=True)
    rows = ["case_id,slide_id,label"]
    for i in range(bags):
        values = rng.standard_normal((instances, features), dtype=np.float32)
        values[: instances // 10, :8] += i % 2
        with h5py.File(root / FOLDER / "h5_files" / f"slide_{i}.h5", "w") as file:
            file.create_dataset("features", data=values, maxshape=(None, features))
            coords = np.arange(2 * instances, dtype=np.int32).reshape(-1, 2) * 256
            file.create_dataset("coords", data=coords, maxshape=(None, 2))
        rows.append(f"case_{i},slide_{i},{'tumour' if i % 2 else 'normal'}")
    (root / FOLDER / "labels.csv").write_text("\n".join(rows) + "\n")


def start_up(root: Path) -> None:
    """Import what the steps import, and do nothing."""
    import aml_mil.interchange
    import aml_mil.mil

    assert root.is_dir()
    assert aml_mil.interchange.IMPORTERS
    assert aml_mil.mil.FitConfig


def copy_folder(root: Path) -> None:
    """Copy every byte through memory and sync each file, as a careful copy does."""
    import os

    for source in sorted((root / FOLDER).rglob("*")):
        target = root / COPY / source.relative_to(root / FOLDER)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, COPY_BLOCK_BYTES)
            writer.flush()
            os.fsync(writer.fileno())


def import_folder(root: Path) -> None:
    """Import the folder into a store."""
    from aml_mil.interchange import open_source
    from stores.interchange import import_source

    source = open_source("clam", root / FOLDER)
    for _ in import_source(source, root / STORE, encoder_name="random"):
        pass


def fit_store(root: Path) -> None:
    """Train the heads of 5 folds for a few epochs, tables and floors included."""
    from aml_mil.mil import FitConfig, fit

    for _ in fit(root / STORE, out_dir=root / RUN, config=FitConfig(seeds=1, epochs=2)):
        pass


def export_store(root: Path) -> None:
    """Write the store as a CLAM folder, h5_files and pt_files."""
    from aml_mil.interchange import export_store as export
    from stores import open_store

    with open_store(root / STORE) as store:
        for _ in export(store, "clam", root / BACK):
            pass


def compare(root: Path) -> None:
    """Check that what came out is what went in, bit for bit."""
    for source in sorted((root / FOLDER / "h5_files").iterdir()):
        with (
            h5py.File(source) as before,
            h5py.File(root / BACK / "h5_files" / source.name) as after,
        ):
            for name in ("features", "coords"):
                first, second = before[name][...], after[name][...]
                if first.dtype != second.dtype or first.tobytes() != second.tobytes():
                    raise SystemExit(f"{source.name}: {name} changed on the way")


STEPS: dict[str, Callable[[Path], None]] = {
    "start-up": start_up,
    "copy": copy_folder,
    "import": import_folder,
    "fit (5 heads, 2 epochs)": fit_store,
    "export": export_store,
    "compare": compare,
}


NEEDS_LIBRARIES = ("import", "fit (5 heads, 2 epochs)", "export")


def run_step(name: str, root: Path) -> dict[str, float]:
    """Run a step in a process of its own; return its seconds and peak memory."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.interchange", "--step", name, "--root", str(root)],
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_step(name: str, root: Path) -> None:
    """Do a step and print what it took; called in the process of the step."""
    if name in NEEDS_LIBRARIES:
        start_up(root)
    start, cpu_start = time.perf_counter(), time.process_time()
    STEPS[name](root)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {"seconds": round(seconds, 2), "cpu_s": round(cpu_s, 2), "peak_mib": round(peak)}
    print(json.dumps(measured))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all steps, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bags", type=int, default=200)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--root", type=Path, help="where to work; a temporary folder if omitted")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.step:
        measure_step(given.step, given.root)
        return
    with tempfile.TemporaryDirectory(dir=given.root) as name:
        root = Path(name)
        make_folder(root, bags=given.bags, instances=given.instances, features=given.features)
        size = sum(p.stat().st_size for p in (root / FOLDER).rglob("*") if p.is_file())
        print(f"{given.bags} bags x {given.instances} x {given.features}: {size / 2**20:.0f} MiB")
        print(f"{'step':26}{'seconds':>9}{'CPU s':>8}{'MiB/s':>8}{'peak MiB':>10}{'/ copy':>8}")
        results: dict[str, dict[str, float]] = {}
        for step in STEPS:
            results[step] = run_step(step, root)
            seconds = results[step]["seconds"]
            ratio = seconds / results["copy"]["seconds"] if "copy" in results else float("nan")
            rate = size / 2**20 / max(seconds, 0.01)
            peak = results[step]["peak_mib"]
            cpu_s = results[step]["cpu_s"]
            line = f"{step:26}{seconds:9.2f}{cpu_s:8.2f}{rate:8.0f}{peak:10.0f}{ratio:8.1f}"
            print(line, flush=True)
    if given.json:
        document = {"num_bytes": size, **vars(given), "root": None, "json": None, "steps": results}
        given.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
