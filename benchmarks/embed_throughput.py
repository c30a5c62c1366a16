"""Images a second of `embed`, beside the field's loop and beside its own ceilings.

    python -m benchmarks.embed_throughput [--cohort PATH] [--encoder NAME --weights FILE]
        [--views identity] [--precision auto] [--compile] [--kind jpg]
        [--cells 1500] [--cells-per-patient 75] [--rounds 2] [--full] [--json FILE]

Without arguments: synthetic JPEGs, a ResNet-18, one view. `--full` adds ResNet-34, four views and
TIFFs. Of a large synthetic cohort twenty patients are drawn, the others are copies. All steps see
the same images, each in a process of its own, in turns; the best round of each counts. `field`:
PIL, a DataLoader for each patient, float32 eager NCHW. `ours`: `embed` with its defaults, to the
committed store. `engine`: the engine that it takes, on images in memory; `other engine`: the one it
does not take (torch or OpenVINO on a CPU, compiled or not on a GPU); `decode`: files to pixels.
Start-up stands apart.
`vs_field` is ours / field, `of_ceiling` ours / engine, `of_both` ours / the slower of engine and
decoding (which share the cores of a CPU, and not those of a GPU), by the clock; where other
programs share the cores, the same ratios of CPU time an image are steadier.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tabulate import tabulate

from benchmarks.embed_steps import STEPS, Job, Measured, run_step

DRAWN_PATIENTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One table: an encoder, its views, and a kind of files."""

    title: str
    job: Job


def draw_cohort(root: Path, *, num_cells: int, cells_per_patient: int, kind: str) -> Path:
    """Render a synthetic cohort as ``jpg`` or ``tif``."""
    from aml_mil.cohort.synthetic import render_cohort

    folder = root / kind
    num_patients = -(-num_cells // cells_per_patient)
    num_drawn = min(num_patients, DRAWN_PATIENTS)
    for _ in render_cohort(
        folder, num_patients=num_drawn, cells_per_patient=cells_per_patient, seed=0
    ):
        pass
    if kind == "jpg":
        for path in folder.rglob("*.tif"):
            Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=92)
            path.unlink()
        types = folder / "cell_annotations.csv"
        types.write_text(types.read_text().replace(".tif", ".jpg"))
    table = folder / "metadata.csv"
    rows = {row.split(",")[1]: row for row in table.read_text().splitlines()[1:]}
    drawn = sorted(path for path in (folder / "data").glob("*/*") if path.is_dir())
    with table.open("a") as patients:
        for number in range(num_patients - num_drawn):
            source = drawn[number % num_drawn]
            copy = source.with_name(f"{source.name}-{number}")
            shutil.copytree(source, copy)
            patients.write(
                rows[source.name].replace(f",{source.name},", f",{copy.name},", 1) + "\n"
            )
    return folder


def find_cases(given: argparse.Namespace, root: Path) -> Iterator[Case]:
    """The default case, then those of ``--full``."""
    kinds = ["jpg", "tif"] if given.full else [given.kind]
    cohorts = (
        {"cohort": given.cohort}
        if given.cohort
        else {
            kind: draw_cohort(
                root,
                num_cells=given.cells,
                cells_per_patient=given.cells_per_patient,
                kind=kind,
            )
            for kind in kinds
        }
    )
    encoders = [(given.encoder, given.weights)]
    if given.full:
        encoders.append(("resnet34", "random:0"))
    for encoder, weights in encoders:
        for views in ("identity", "flips") if given.full else (given.views,):
            for kind, cohort in cohorts.items():
                job = Job(
                    cohort=str(cohort),
                    num_cells=given.cells,
                    encoder=encoder,
                    weights=weights,
                    views=views,
                    root=str(root),
                    precision=given.precision,
                    compile=given.compile,
                )
                yield Case(title=f"{encoder}, {views}, {kind}", job=job)


def measure(case: Case, *, rounds: int) -> dict[str, Any]:
    """Run all steps in turns; gives their best rounds and the ratios."""
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for name in STEPS:
            if name == "other engine" and case.job.precision == "int8":  # OpenVINO's alone
                continue
            try:
                found = start_step(name, case.job)
            except subprocess.CalledProcessError:
                if name != "other engine":
                    raise
                print("other engine: cannot run here, see above", file=sys.stderr)
                continue
            before = best.get(name, found)
            best[name] = replace(
                max(before, found, key=lambda measured: measured.rate),
                cpu_ms=min(before.cpu_ms, found.cpu_ms),
            )
    slower = min(best["engine"].rate, best["decode"].rate)
    ratios = {
        "vs_field": best["ours"].rate / best["field"].rate,
        "of_ceiling": best["ours"].rate / best["engine"].rate,
        "of_both": best["ours"].rate / slower,
        "cpu_vs_field": best["field"].cpu_ms / best["ours"].cpu_ms,
        "cpu_of_ceiling": best["engine"].cpu_ms / best["ours"].cpu_ms,
    }
    if "other engine" in best:
        other = best["other engine"]
        ratios["vs_other_engine"] = best["engine"].rate / other.rate
        ratios["cpu_vs_other_engine"] = other.cpu_ms / best["engine"].cpu_ms
    return {"steps": {n: {**asdict(s), "rate": s.rate} for n, s in best.items()}, **ratios}


def start_step(name: str, job: Job) -> Measured:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.embed_throughput"]
    done = subprocess.run(
        [*command, "--step", name, "--job", json.dumps(asdict(job))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def show(case: Case, result: dict[str, Any]) -> None:
    """Print one table."""
    rows = [
        [name, step["engine"], step["rate"], step["cpu_ms"], step["start_up_s"], step["peak_mib"]]
        for name, step in result["steps"].items()
    ]
    headers = ["step", "engine", "img/s", "CPU ms/img", "start-up s", "peak MiB"]
    print(f"\n{case.title}: {result['steps']['ours']['images']} cells")
    print(tabulate(rows, headers=headers, floatfmt=".4g"))
    for name in ("vs_field", "of_ceiling", "of_both", "vs_other_engine"):
        if name in result:
            by_cpu = result.get(f"cpu_{name}")
            cpu = "" if by_cpu is None else f" (by CPU time {by_cpu:.2f})"
            print(f"{name} {result[name]:.2f}{cpu}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print their tables, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, help="a cohort to read; else a synthetic one")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--views", default="identity", choices=("identity", "flips"))
    parser.add_argument("--precision", default="auto", help="of ours, as embed takes it")
    parser.add_argument("--compile", action="store_true", help="ours, as embed takes it")
    parser.add_argument("--kind", default="jpg", choices=("jpg", "tif"), help="of synthetic files")
    parser.add_argument("--cells", type=int, default=1500, help="whole patients up to so many")
    parser.add_argument("--cells-per-patient", type=int, default=75, help="of synthetic patients")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="ResNet-34, four views, TIFF too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.step:
        print(json.dumps(run_step(given.step, Job(**given.job))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for case in find_cases(given, Path(name)):
            results[case.title] = measure(case, rounds=given.rounds)
            show(case, results[case.title])
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
