"""Write some folds of a folds.csv as splits, so that `fit-mil` fits these folds alone.

python -m benchmarks.study_splits FOLDS --keep 0,1 --out DIR
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from aml_mil.cohort import read_folds, roles_of
from aml_mil.mil.splits import FILE_NAME, format_split
from stores.files import durable_write


def main(arguments: Sequence[str] | None = None) -> None:
    """Write `splits_0.csv` and so on, numbered by their order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folds", type=Path)
    parser.add_argument("--keep", required=True, metavar="K,K")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    folds = read_folds(given.folds)
    given.out.mkdir(parents=True, exist_ok=True)
    for place, fold in enumerate(map(int, given.keep.split(","))):
        path = given.out / FILE_NAME.replace("{i}", str(place))
        durable_write(path, format_split(roles_of(folds, fold)).encode())
        print(path)


if __name__ == "__main__":
    main()
