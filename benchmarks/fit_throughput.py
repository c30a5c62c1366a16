"""Bags a second of `fit-mil`, beside the field's loop, torchmil and its own ceiling.

    python -m benchmarks.fit_throughput [--store PATH] [--full] [--rounds 2] [--seconds 6]
        [--device cpu] [--torchmil PYTHON] [--json FILE]

Without arguments: synthetic vectors, 467 and 150 cells a bag. `--full` adds 60 heads, and maps.
`matmul` is the rate of large products in a number format. `loop` is the field's: one head, one bag
a step, bags in memory; two threads or two single-thread processes, and in bf16 autocast or bf16
weights, whichever is best. `ours R` trains R heads at once, draws and packing included. PYTHON is
the interpreter of an environment with torchmil. Every measurement has a process of its own, in
turns; the best round of each counts.

`vs_field` is ours in bf16 / the best fp32 loop at R = 15, 467 cells; its limit is what the loop's
arithmetic would take at bf16's matmul rate. `of_ceiling` is ours in bf16 / bf16's matmul rate.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.fit_steps import CORES, Job, Measured, find_loops, measure, run_step


def find_cases(given: argparse.Namespace) -> Iterator[tuple[str, Job, tuple[int, ...]]]:
    """Yield title, job and numbers of heads of each table."""
    base = Job(
        step="ours", precision="fp32", store=given.store, seconds=given.seconds, device=given.device
    )
    heads = (1, 5, 15, 60) if given.full else (1, 5, 15)
    if given.store:
        yield f"{given.store}", base, heads
        return
    yield "467 cells", base, heads
    yield "150 cells", replace(base, cells=150), heads
    if given.full:
        yield "467 maps of 5x5", replace(base, map_side=5), (1, 15)


def find_jobs(case: Job, heads: Sequence[int]) -> dict[str, list[Job]]:
    """Return the jobs of a table by row; the best of a row's jobs counts."""
    jobs: dict[str, list[Job]] = {}
    for precision in ("fp32", "bf16"):
        own = replace(case, precision=precision)
        jobs[f"matmul {precision}"] = [replace(own, step="matmul", threads=CORES)]
        jobs[f"loop {precision}"] = find_loops(replace(own, step="loop"))
        for count in heads:
            jobs[f"ours {precision} R={count}"] = [replace(own, replicates=count, threads=CORES)]
    return jobs


def run_case(case: Job, heads: Sequence[int], *, rounds: int) -> dict[str, Measured]:
    """Measure all rows in turns."""
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for row, jobs in find_jobs(case, heads).items():
            for job in jobs:
                found = measure(job)
                best[row] = max(best.get(row, found), found, key=lambda m: m.bags_per_s)
    return best


def run_torchmil(python: str, cells: int) -> Measured | None:
    """Measure torchmil; None, and said, where it is not there."""
    command = [python, "-m", "benchmarks.fit_torchmil", "--cells", str(cells)]
    done = subprocess.run(
        [*command, "--threads", str(CORES)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
        print(f"torchmil is left out: {reason}")
        return None
    return Measured(gflop=0, start_up_s=0, **json.loads(done.stdout.splitlines()[-1]))


def ratios_of(rows: dict[str, Measured], count: int) -> dict[str, float]:
    """Return the ratios of one number of heads."""
    ours, loops = (
        {p: rows[f"{name.format(p)}"] for p in ("fp32", "bf16")}
        for name in (f"ours {{}} R={count}", "loop {}")
    )
    matmul = {p: rows[f"matmul {p}"].gflop_per_s for p in ("fp32", "bf16")}
    return {
        "vs_field": ours["bf16"].bags_per_s / loops["fp32"].bags_per_s,
        "limit": matmul["bf16"] / loops["fp32"].gflop_per_s,
        "of_ceiling": ours["bf16"].gflop_per_s / matmul["bf16"],
        "bf16_vs_bf16_loop": ours["bf16"].bags_per_s / loops["bf16"].bags_per_s,
        "fp32_vs_fp32_loop": ours["fp32"].bags_per_s / loops["fp32"].bags_per_s,
        "fp32_of_ceiling": ours["fp32"].gflop_per_s / matmul["fp32"],
    }


def show(title: str, rows: dict[str, Measured], ratios: dict[str, float], count: int) -> None:
    """Print one table and its ratios."""
    table = [
        [
            name,
            "" if name.startswith("matmul") else row.bags_per_s,
            row.gflop_per_s or "",
            "" if name.startswith("matmul") else row.cpu_s / row.bags * 1e3,
            row.peak_mib,
        ]
        for name, row in rows.items()
    ]
    print(f"\n{title}")
    print(
        tabulate(table, headers=["", "bags/s", "GFLOP/s", "CPU ms/bag", "peak MiB"], floatfmt=".4g")
    )
    print(f"R = {count}: ", end="")
    print(", ".join(f"{name} {value:.2f}" for name, value in ratios.items()), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print their tables, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="", help="a store to train on; else synthetic bags")
    parser.add_argument("--full", action="store_true", help="60 heads and maps too")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6, help="least time of a measurement")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--torchmil", metavar="PYTHON", help="interpreter that has torchmil")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.job:
        print(json.dumps(run_step(Job(**given.job))))
        return
    if not given.torchmil:
        print("torchmil is left out: name an interpreter that has it, --torchmil PYTHON")
    document: dict[str, Any] = {"ratios": {}, "cases": {}}
    for title, case, heads in find_cases(given):
        rows = run_case(case, heads, rounds=given.rounds)
        if given.torchmil and not (case.store or case.map_side):
            found = run_torchmil(given.torchmil, case.cells)
            rows |= {"torchmil fp32": found} if found else {}
        count = 15
        ratios = ratios_of(rows, count)
        show(title, rows, ratios, count)
        document["ratios"] = document["ratios"] or ratios
        document["cases"][title] = {
            "ratios": ratios,
            "rows": {name: asdict(row) for name, row in rows.items()},
        }
        if given.json:
            given.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
