"""All that needs a GPU, one after the other: the tests, then the benchmarks at the paper's size.

    python -m benchmarks.on_gpu OUT [--only tests,embed] [--limit-s 540]

Each step is a process of its own; its output goes to OUT/<step>.log, its figures to
OUT/<step>.json. A step that fails or takes too long is said at the end, and the others run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.embed_throughput import draw_cohort

EMBED = "benchmarks.embed_throughput --kind tif --cells 101947 --cells-per-patient 467 --rounds 1"
GPU_TESTS = (
    "tests/embedding/test_engine.py tests/embedding/test_cuda_graph.py "
    "tests/embedding/test_gpu_run.py tests/mil/engine/test_devices.py tests/mil/test_gpu_fit.py "
    "tests/ssl/test_devices.py tests/giga/test_devices.py"
)
STEPS: Mapping[str, str] = {
    "tests": f"pytest -q -m gpu {GPU_TESTS}",
    "fit-15": "benchmarks.fit_paper --seconds 15",
    "fit-60": "benchmarks.fit_paper --seconds 5 --seeds 12",
    "fit": "benchmarks.fit_throughput --device cuda --full --rounds 1 --seconds 3",
    "decode": "benchmarks.decode_workers",
    "embed-4": f"{EMBED} --views flips",
    "embed-1": f"{EMBED} --views identity",
    "pretrain": "benchmarks.pretrain_throughput COHORT --steps 20",
    "fit-maps": "benchmarks.fit_paper --map-side 5 --views 1 --seconds 10",
}
PRETRAIN_CELLS = 4_096


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps; exits with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas")
    parser.add_argument("--limit-s", type=float, default=540, help="of each step")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if unknown := set(names) - set(STEPS):
        parser.error(f"unknown steps {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            words = STEPS[name].split()
            if "COHORT" in words:
                cohort = draw_cohort(
                    Path(folder), num_cells=PRETRAIN_CELLS, cells_per_patient=256, kind="tif"
                )
                words[words.index("COHORT")] = str(cohort)
            if name != "tests":
                words += ["--json", str(given.out / f"{name}.json")]
            ended = run_step(words, log=given.out / f"{name}.log", limit_s=given.limit_s)
            print(f"{name}: {ended}", flush=True)
            if ended.startswith("failed"):
                failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see their logs in {given.out}")


def run_step(words: Sequence[str], *, log: Path, limit_s: float) -> str:
    """Run a module with its output in a file; says how it ended."""
    began = time.perf_counter()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", *words],
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            return f"failed: over {limit_s:.0f} s"
    took = f"{time.perf_counter() - began:.0f} s"
    return took if done.returncode == 0 else f"failed with exit code {done.returncode}, {took}"


if __name__ == "__main__":
    main()
