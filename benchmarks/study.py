"""The paper's study on a real cohort: every table and figure by one command, which may be killed.

    python -m benchmarks.study COHORT --annotated CELLS --out STUDY [--imagenet FILE] [--mil DIR]
        [--budget small|medium|full] [--bundle DIR] [--list]

COHORT holds patients' images, CELLS a folder of images for each cell type. `protocol` below is the
order of the work; each step is one of the public commands, which `--list` shows. What is done is
not done again. STUDY/RESULTS.md holds the outcome, STUDY/steps.json what each step took.

--imagenet takes the weights of torchvision's squeezenet1_0, --mil the folder that
`benchmarks.mil_benchmarks` reads, --bundle where a model for new patients goes.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from aml_mil.cohort import read_cohort
from aml_mil.embedding.stain import recorded_reference
from aml_mil.errors import AmlMilError
from aml_mil.runtime import has_native_bf16, resolve_device
from benchmarks.study_budget import BUDGETS, SSL_METHODS, Heads
from benchmarks.study_bundle import ROBUSTNESS_FILE, delivered
from benchmarks.study_choice import choose
from benchmarks.study_layout import Encoder, Study
from benchmarks.study_steps import Step, StepRunner, StudyError, StudyStopped
from stores import open_store, store_exists

MAP_SIZE_PX = 144  # where a ResNet's last map is 5x5


def protocol(study: Study) -> Iterator[Step]:
    """Yield the steps of the study in their order.

    Each is to be done before the next is asked for: the encoder and heads that are looked at more
    closely are chosen from validation figures of the runs before.
    """
    yield from split_patients(study)
    yield from train_encoders(study)
    yield from embed_cells(study, (*study.given, *study.self_supervised))
    for heads in study.budget.heads:
        yield fit(study, study.of_all_folds, heads, kind=heads.name)
        if not study.budget.is_ssl_of_all_folds:
            encoders = (*study.given, *study.self_supervised)
            yield fit(study, encoders, heads, kind=few_kind(heads), folds=study.few_folds)
    best, heads = choose(study)
    yield from vary_features(study, heads)
    yield from change_stain(study)
    yield from embed_patients(study)
    yield from show(study, best, heads)
    if study.mil is not None:
        yield mil_benchmarks(study, study.mil)
    if study.bundle is not None:
        yield module("bundle", "benchmarks.study_bundle", study.out, "--out", study.bundle)
    yield module("results", "benchmarks.study_results", study.out)


def split_patients(study: Study) -> Iterator[Step]:
    """Make stratified folds, and splits of the folds that get encoders of their own."""
    words = ("folds", study.cohort, "--num-folds", study.budget.num_folds, "--out", study.folds)
    yield cli("folds", *words, outputs=[study.folds])
    if not study.budget.is_ssl_of_all_folds:
        files = [study.few_folds / f"splits_{k}.csv" for k in range(len(study.budget.ssl_folds))]
        chosen = ",".join(map(str, study.budget.ssl_folds))
        yield module(
            "splits",
            *("benchmarks.study_splits", study.folds, "--out", study.few_folds, "--keep", chosen),
            outputs=files,
        )


def train_encoders(study: Study) -> Iterator[Step]:
    """Pre-train on each fold's training patients and on annotated cells; ask nearest neighbours."""
    for fold in study.budget.ssl_folds:
        for method in SSL_METHODS:
            where = (study.cohort, "--folds", study.folds, "--fold", fold)
            yield pretrain(study, method, f"{method}-{fold}", *where)
    yield pretrain(study, "supervised", "supervised", study.annotated)
    if study.has_cell_types:
        names = (*(f"{method}-0" for method in SSL_METHODS), "supervised")
        encoders = [study.checkpoint(name) for name in names]
        out = study.out / "knn.json"
        words = (study.cohort, *encoders, "--folds", study.folds, "--fold", 0, "--json", out)
        yield module("knn", "benchmarks.pretrain_knn", *words, outputs=[out])


def pretrain(study: Study, method: str, name: str, *words: object) -> Step:
    """Train one encoder."""
    encoder = study.checkpoint(name)
    return cli(
        f"pretrain-{name}",
        *("pretrain", method, *words, "--out", encoder, *study.budget.flags(method)),
        outputs=[encoder],
        state=encoder.with_suffix(".state.safetensors"),
    )


def embed_cells(
    study: Study, encoders: Sequence[Encoder], *words: str, kind: str = ""
) -> Iterator[Step]:
    """Embed all cells in one pass for all encoders that take images of one size."""
    by_size = sorted(encoders, key=lambda encoder: -encoder.size_px)
    for size, same_size in groupby(by_size, key=lambda encoder: encoder.size_px):
        group = [each for encoder in same_size for each in encoder.of_each_fold]
        yield cli(
            "-".join(filter(None, ("embed", kind, f"{size}px"))),
            *("embed", study.cohort, "--image-size", size),
            *(word for encoder in group for word in encoder.words),
            *("--out", study.out / "stores" / kind / "{encoder}.zarr", *words),
            outputs=[study.store(encoder, kind) for encoder in group],
        )


def fit(
    study: Study,
    encoders: Sequence[Encoder],
    heads: Heads,
    *,
    kind: str,
    stores: str = "",
    folds: Path | None = None,
) -> Step:
    """Fit the heads of several encoders in one program, beside the floors."""
    runs = [study.run(encoder, kind) for encoder in encoders]
    out = runs[0].parent if len(runs) > 1 else runs[0]
    has_bf16 = resolve_device("auto").type == "cpu" and has_native_bf16()
    floor = study.store(study.random, stores if study.random in encoders else "")
    return cli(
        f"fit-{kind}",
        *("fit-mil", *(study.store(encoder, stores) for encoder in encoders), "--out", out),
        *("--folds", folds or study.folds, *heads.flags.split()),
        *(("--precision", "bf16") if has_bf16 else ()),
        *("--random-store", floor),
        outputs=[run / "metrics.json" for run in runs],
    )


def vary_features(study: Study, heads: Heads) -> Iterator[Step]:
    """Fit one view, maps, and what is tried against another stain, all else as before."""
    encoder, one_view = study.supervised, ("--views", "identity")
    yield from embed_cells(study, [encoder], *one_view, kind="one-view")
    yield fit(study, [encoder], heads, kind="one-view", stores="one-view")
    large = replace(encoder, size_px=MAP_SIZE_PX)
    short = replace(heads, flags=" ".join([heads.flags, study.budget.maps]))
    for kind, features in (("vectors", "vector"), ("maps", "map")):
        yield from embed_cells(study, [large], *one_view, "--features", features, kind=kind)
        yield fit(study, [large], short, kind=kind, stores=kind, folds=study.few_folds)
    for kind in study.answers:
        yield from embed_cells(study, study.given, *study.budget.flags(kind), kind=kind)
        yield fit(study, study.given, heads, kind=kind, stores=kind)


def change_stain(study: Study) -> Iterator[Step]:
    """Predict validation patients as another laboratory might have stained them."""
    stained = replace(study, cohort=study.out / "shifted" / "cohort")
    outputs = [stained.cohort / "metadata.csv"]
    yield module(
        "shifted-cohort", "benchmarks.shifted_cohort", study.cohort, stained.cohort, outputs=outputs
    )
    one_view = ("--views", "identity")
    yield from embed_cells(stained, study.given, *one_view, kind="shifted")
    stores = {heads.name: "shifted" for heads in study.budget.heads}
    if "colour" in study.answers:
        stores["colour"] = "shifted"
    if "stain" in study.answers:
        words = (*one_view, *study.budget.flags("stain"), *reference_words(study))
        yield from embed_cells(stained, study.given, *words, kind="shifted-stain")
        stores["stain"] = "shifted-stain"
    pairs = [
        f"{study.run(encoder, kind)}={study.store(encoder, store)}"
        for kind, store in stores.items()
        for encoder in study.given
    ]
    out = study.out / ROBUSTNESS_FILE
    yield module("robustness", "benchmarks.robustness", *pairs, "--json", out, outputs=[out])


def reference_words(study: Study) -> tuple[str, ...]:
    """Let `embed` bring colours to the very reference of the stores that heads were fitted on."""
    path = study.store(study.random, "stain")
    if not store_exists(path):
        return ()
    with open_store(path) as store:
        reference = recorded_reference(store.manifest.preprocessing)
    assert reference is not None
    return ("--stain-reference", ",".join(map(str, reference)))


def embed_patients(study: Study) -> Iterator[Step]:
    """Learn one vector for a patient without labels, and probe it with few labels."""
    encoder = study.supervised
    yield from embed_cells(study, [encoder], "--views", "shared:5", kind="shared")
    store = study.store(encoder, "shared")
    for fold in range(study.budget.num_folds):
        giga = study.checkpoint(f"giga-{fold}")
        yield cli(
            f"giga-{fold}",
            *("giga-ssl", store, "--folds", study.folds, "--fold", fold, "--out", giga),
            *study.budget.flags("giga"),
            outputs=[giga],
            state=giga.with_suffix(".state.safetensors"),
        )
    probe = study.out / "probe"
    words = ("--giga", study.checkpoint("giga-{fold}"), "--folds", study.folds, "--out", probe)
    yield cli(
        "probe", "probe", store, *words, *study.budget.flags("probe"), outputs=[probe / "probe.csv"]
    )


def show(study: Study, best: Encoder, heads: Heads) -> Iterator[Step]:
    """Put best, random and delivered model under stress, draw the figures, write the report."""
    under_stress = [study.run(encoder, heads.name) for encoder in (best, study.random)]
    for run in dict.fromkeys((*under_stress, delivered(study).run)):
        words = ("stress", run, "--cohort", study.cohort, *study.budget.flags("stress"))
        name = f"stress-{run.parent.name}-{run.name}"
        yield cli(name, *words, outputs=[run / "stress.json"])
    kinds = {heads.name: study.of_all_folds}
    if not study.budget.is_ssl_of_all_folds:
        kinds[few_kind(heads)] = study.self_supervised
    for kind, encoders in kinds.items():
        runs = [study.run(encoder, kind) for encoder in encoders]
        drawings = study.out / "drawings" / kind
        yield cli(
            f"compare-{kind}",
            *("compare", *runs, "--figures", drawings),
            *("--random-store", study.store(study.random)),
            outputs=[drawings / "figure2_confusion.png"],
        )
    report = study.out / "report.html"
    words = ("report", study.run(best, heads.name), "--cohort", study.cohort, "--out", report)
    yield cli("report", *words, outputs=[report])


def mil_benchmarks(study: Study, folder: Path) -> Step:
    """Measure the heads on public multiple-instance data."""
    out = study.out / "mil_benchmarks.json"
    words = (folder, *study.budget.flags("mil"), "--json", out)
    return module("mil-benchmarks", "benchmarks.mil_benchmarks", *words, outputs=[out])


def few_kind(heads: Heads) -> str:
    """Name the runs on those folds that have encoders of their own."""
    return f"{heads.name}-few-folds"


def cli(name: str, *words: object, outputs: Sequence[Path], state: Path | None = None) -> Step:
    """Make a step of an `aml-mil` command."""
    named = ("-m", "cli", *map(str, words))
    return Step(name=name, words=named, outputs=tuple(outputs), state=state)


def module(name: str, *words: object, outputs: Sequence[Path] = ()) -> Step:
    """Make a step of a module of the benchmarks."""
    return Step(name=name, words=("-m", *map(str, words)), outputs=tuple(outputs))


def run_study(study: Study) -> None:
    """Do what is not done yet.

    Raises:
        StudyError: A step failed, or a signal came.
    """
    count = sum(1 for _ in protocol(study))
    study.out.mkdir(parents=True, exist_ok=True)
    study.save()
    StepRunner(study.out, count=count).run_all(protocol(study))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study, or list its steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--annotated", type=Path, required=True, metavar="CELLS")
    parser.add_argument("--out", type=Path, required=True, metavar="STUDY")
    parser.add_argument("--imagenet", type=Path, metavar="FILE")
    parser.add_argument("--mil", type=Path, metavar="DIR")
    parser.add_argument("--budget", choices=list(BUDGETS), default="small")
    parser.add_argument("--bundle", type=Path, metavar="DIR")
    parser.add_argument("--list", action="store_true", help="Show the commands, and run none.")
    given = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        study = read_options(
            given, command=shlex.join(["python", "-m", "benchmarks.study", *words])
        )
        if given.list:
            print("\n".join(step.command for step in protocol(study)))
        else:
            run_study(study)
            print(study.out / "RESULTS.md")
    except StudyStopped as stopped:
        print(f"study: {stopped}", file=sys.stderr)
        return 130
    except (StudyError, AmlMilError, OSError) as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 1
    return 0


def read_options(given: argparse.Namespace, *, command: str) -> Study:
    """Read the cohort and lay the study out.

    Raises:
        CohortError: There is no cohort.
    """
    cohort = read_cohort(given.cohort)
    return Study(
        cohort=given.cohort,
        annotated=given.annotated,
        out=given.out,
        budget=BUDGETS[given.budget],
        has_cell_types=any(cell.cell_type for p in cohort.patients for cell in p.cells),
        imagenet=given.imagenet,
        mil=given.mil,
        bundle=given.bundle,
        about={
            "command": command,
            "budget": given.budget,
            "patients": cohort.classes,
            "num_files": cohort.num_cells,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
