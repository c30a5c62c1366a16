"""Crafted run folders: one clear line, in little memory."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.run import open_run
from aml_mil.mil.errors import RunError
from tests.evaluation.cohorts import Fitted
from tests.limits import little_memory, names_below


class RunsCode:
    """Would leave a file behind if its pickle were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def run_path(tinted: Fitted, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tinted.run, tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def pickles(path: Path) -> None:
    evil = np.array([RunsCode(path.with_name("was run"))], dtype=object)
    np.savez(path, bag_ids=evil, offsets=evil, scores=evil, allow_pickle=True)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", bytes(2**28))


def other_offsets(path: Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    offsets = arrays["offsets"].copy()
    offsets[1] = 10**9
    np.savez(path, **{**arrays, "offsets": offsets})


def no_scores(path: Path) -> None:
    np.savez(path, offsets=np.zeros(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "attention"),
        (pickles, "pickled Python objects"),
        (bomb, "would take"),
        (other_offsets, "do not fit together"),
        (no_scores, "bag_ids"),
    ],
)
def test_a_crafted_attention_file_is_refused(
    run_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(run_path / "attention.npz")
    before = names_below(run_path)
    with little_memory(), pytest.raises(EvaluationError, match=message):
        _ = open_run(run_path).attention
    assert names_below(run_path) == before


def huge_head(path: Path) -> None:
    header = b'{"fold0.seed0.a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def other_shapes(path: Path) -> None:
    save_file({name: tensor[..., :1].clone() for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize("change", [cut, huge_head, other_shapes])
def test_crafted_heads_are_refused(run_path: Path, change: Callable[[Path], None]) -> None:
    change(run_path / "heads.safetensors")
    with little_memory(), pytest.raises(RunError, match=r"heads\.safetensors is damaged") as caught:
        open_run(run_path).run.head(0, 0)
    assert "\n" not in str(caught.value)
