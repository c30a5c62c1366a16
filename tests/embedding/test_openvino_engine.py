"""The OpenVINO engine: the torch engine's features, from a graph compiled for the CPU."""

import dataclasses
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from aml_mil.embedding import EngineError, openvino_engine
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.openvino_engine import (
    IMAGES_PER_REQUEST,
    OpenVinoEngine,
    has_openvino,
    import_openvino,
)
from aml_mil.embedding.views import VIEW_SETS
from aml_mil.encoders import load_encoder
from aml_mil.runtime import has_native_bf16

pytestmark = pytest.mark.skipif(not has_openvino(), reason="needs openvino on an x86-64 processor")

FLIPS = VIEW_SETS["flips"]
SIZE_PX = 64
NUM_CELLS = IMAGES_PER_REQUEST + 3  # one full request and a short one
PRECISIONS = ["fp32", "bf16"] if has_native_bf16() else ["fp32"]


@pytest.fixture(scope="module", params=["test_resnet", "test_efficientnet", "test_vit"])
def any_encoder(request):
    return load_encoder(request.param, weights="random:0", image_size_px=SIZE_PX)


@pytest.fixture(scope="module")
def resnet():
    return load_encoder("test_resnet", weights="random:0", image_size_px=SIZE_PX)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (NUM_CELLS, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def exact(encoder, cells):
    torch_engine = TorchEngine(encoder, device=torch.device("cpu"), precision="fp32", views=FLIPS)
    return torch_engine.encode(cells)


def cosines(first, second):
    products = (first * second).sum(-1)
    return products / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_are_torchs_and_depend_on_neither_place_nor_company(any_encoder, cells, precision):
    ready = OpenVinoEngine(any_encoder, precision=precision, views=FLIPS)
    found = ready.encode(cells)
    least = {"fp32": 0.999999, "bf16": 0.9999}[precision]
    assert cosines(found, exact(any_encoder, cells)).min() > least

    order = np.random.default_rng(1).permutation(NUM_CELLS)
    np.testing.assert_array_equal(ready.encode(cells[order]), found[:, order])
    padded = np.zeros((2 * NUM_CELLS, *cells.shape[1:]), dtype=np.uint8)
    padded[:3] = cells[-3:]
    np.testing.assert_array_equal(ready.encode(padded)[:, :3], found[:, -3:])


def test_the_number_of_cores_changes_no_bit(any_encoder, cells, monkeypatch):
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(openvino_engine, "count_own_cores", lambda cores=cores: cores)
        found.append(OpenVinoEngine(any_encoder, precision="fp32", views=FLIPS).encode(cells))
    np.testing.assert_array_equal(*found)


def test_threads_encode_at_once_each_its_own_and_more_than_is_under_way(resnet, cells):
    ready = OpenVinoEngine(resnet, precision="fp32", views=FLIPS)
    rng = np.random.default_rng(2)
    batches = [rng.permuted(np.tile(cells, (8, 1, 1, 1)), axis=0) for _ in range(6)]
    num_requests = len(FLIPS) * len(batches[0]) / openvino_engine.IMAGES_PER_REQUEST
    assert num_requests > openvino_engine.MAX_REQUESTS
    expected = [ready.encode(batch) for batch in batches]
    with ThreadPoolExecutor(3) as executor:
        for found, wanted in zip(executor.map(ready.encode, batches), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_stored_flip_equals_encoding_the_flipped_image(resnet, cells):
    ready = OpenVinoEngine(resnet, precision="fp32", views=FLIPS)
    flips = ready.encode(cells)
    for view, flipped in enumerate(
        [cells, cells[:, :, ::-1], cells[:, ::-1], cells[:, ::-1, ::-1]]
    ):
        expected = ready.encode(np.ascontiguousarray(flipped))[0]
        np.testing.assert_array_equal(flips[view], expected, err_msg=FLIPS[view])
    assert not np.array_equal(flips[0], flips[1])


def test_maps_keep_their_shape(resnet, cells):
    maps = resnet.module.feature_map
    mapped = nn.Module()
    mapped.add_module("trunk", resnet.module)
    mapped.forward = maps
    with torch.no_grad():
        shape = tuple(maps(torch.zeros(1, 3, SIZE_PX, SIZE_PX)).shape[1:])
    encoder = dataclasses.replace(resnet, module=mapped.eval(), feature_shape=shape)
    found = OpenVinoEngine(encoder, precision="fp32", views=("identity",)).encode(cells)
    assert found.shape == (1, NUM_CELLS, *shape)
    expected = exact(resnet, cells)[0]
    np.testing.assert_allclose(found[0].mean((2, 3)), expected, rtol=1e-3, atol=1e-5)


class Untraceable(nn.Module):
    def forward(self, images):
        return torch.linalg.eigvals(images[:, 0]).abs()


class Wrong(nn.Module):
    """Encodes otherwise when it is traced, as a branch on the data does."""

    def forward(self, images):
        means = images.mean((2, 3))
        return means if torch.jit.is_tracing() else -means


def test_an_encoder_it_cannot_run_is_refused_by_name(resnet):
    encoder = dataclasses.replace(resnet, module=Untraceable(), feature_shape=(SIZE_PX,))
    with pytest.raises(EngineError, match=r"cannot run test_resnet: .*eigvals; use --engine torch"):
        OpenVinoEngine(encoder, precision="fp32", views=FLIPS)


def test_an_encoder_it_runs_wrongly_is_refused_by_name(resnet):
    encoder = dataclasses.replace(resnet, module=Wrong(), feature_shape=(3,))
    with pytest.raises(EngineError, match=r"encodes test_resnet wrongly.*cosine .* is -1"):
        OpenVinoEngine(encoder, precision="fp32", views=FLIPS)


def test_bf16_is_refused_where_it_would_be_float32_in_silence(resnet, monkeypatch):
    monkeypatch.setattr(openvino_engine, "has_native_bf16", lambda: False)
    with pytest.raises(EngineError, match="bf16 only where the CPU does"):
        OpenVinoEngine(resnet, precision="bf16", views=FLIPS)


def test_the_import_leaves_telemetry_out():
    openvino = import_openvino()
    telemetry = sys.modules["openvino.tools.ovc.telemetry_utils"].tm
    assert telemetry.__name__.endswith("telemetry_stub")
    assert "openvino_telemetry" not in sys.modules
    assert openvino is import_openvino()


def test_a_missing_package_is_an_error_that_says_what_to_do(resnet, monkeypatch):
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(importlib, "import_module", _refuse)
    with pytest.raises(EngineError, match="pip install openvino, or --engine torch"):
        OpenVinoEngine(resnet, precision="fp32", views=FLIPS)


def _refuse(name):
    raise ImportError(f"no module named {name}")


def test_looking_for_it_imports_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    assert has_openvino()
    assert "openvino" not in sys.modules
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not has_openvino()
