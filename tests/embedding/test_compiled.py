"""The torch engine with its encoder compiled."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from aml_mil.embedding import EngineError, NumericsMismatchError
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.engines import choose_engine
from stores import open_store
from tests.embedding.drawing import (
    LABELS,
    SIZE_PX,
    bag_bytes,
    interrupt_after_a_bag,
    run,
    start,
    tiny_encoder,
)

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def _compile_anew():
    torch.compiler.reset()


def build(**values):
    settings = {"device": CPU, "precision": "fp32", "views": ("identity",), "is_folded": True}
    return TorchEngine(tiny_encoder(), **settings | values)


@needs_compiler
def test_a_compiled_encoder_gives_the_same_features_but_for_rounding():
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    plain, compiled = build(), build(compile_for=5)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        acc_events=True,  # else torch 2.11 warns
    ) as profile:
        found = compiled.encode(images)
    np.testing.assert_allclose(found, plain.encode(images), rtol=1e-4, atol=1e-5)
    calls = {e.key for e in profile.key_averages()}
    assert not calls & {"aten::relu", "aten::relu_", "aten::batch_norm"}, "nothing was compiled"


@needs_compiler
def test_a_store_stays_compiled_to_the_byte(cohort_dir, tmp_path):
    begun, whole = tmp_path / "begun.zarr", tmp_path / "whole.zarr"
    interrupt_after_a_bag(start(cohort_dir, begun, tiny_encoder(), compile=True), begun)
    run(cohort_dir, begun, tiny_encoder())
    run(cohort_dir, whole, tiny_encoder(), compile=True)
    assert bag_bytes(begun) == bag_bytes(whole)
    with open_store(begun) as store:
        assert store.bag_ids == tuple(sorted(LABELS))
        assert store.manifest.numerics["compiled"] is True
        assert store.manifest.numerics["engine"] == "torch"


@needs_compiler
def test_a_store_begun_without_is_not_compiled_later(cohort_dir, tmp_path):
    store = tmp_path / "plain.zarr"
    run(cohort_dir, store, tiny_encoder())
    with pytest.raises(NumericsMismatchError, match="compiled: store False, now True"):
        run(cohort_dir, store, tiny_encoder(), compile=True)


def test_without_a_compiler_no_store_is_begun(cohort_dir, tmp_path):
    words = ["--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32", "--compile"]
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "embed", cohort_dir, *words, "--out", tmp_path / "none.zarr"],
        env={"PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert "torch cannot compile test_resnet: " in last
    assert last.endswith("leave out --compile")
    assert not (tmp_path / "none.zarr").exists()


@pytest.mark.parametrize(("choice", "precision"), [("openvino", "fp32"), ("auto", "int8")])
def test_compile_is_for_torch(choice, precision):
    settings = {"device": CPU, "num_encodings": 10**6, "is_compiled": True}
    assert choose_engine("auto", precision="fp32", **settings) == "torch"
    with pytest.raises(EngineError, match="--compile is for torch"):
        choose_engine(choice, precision=precision, **settings)
