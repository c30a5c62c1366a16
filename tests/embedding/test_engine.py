"""The engine: the same features for an image whatever surrounds it."""

import numpy as np
import pytest
import torch

from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.views import VIEW_SETS
from aml_mil.encoders import load_encoder

CPU = torch.device("cpu")
FLIPS = VIEW_SETS["flips"]
BATCH_SIZE = 8
SIZE_PX = 64


@pytest.fixture(scope="module", params=["test_resnet", "test_efficientnet", "test_vit"])
def any_encoder(request):
    return load_encoder(request.param, weights="random:0", image_size_px=SIZE_PX)


@pytest.fixture(scope="module")
def resnet():
    return load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    shape = (BATCH_SIZE, SIZE_PX, SIZE_PX, 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def engine(encoder, precision="fp32", views=("identity",), device=CPU):
    return TorchEngine(encoder, device=device, precision=precision, views=views)


def cosines(first, second):
    products = (first * second).sum(-1)
    return products / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_depend_on_neither_place_nor_company(any_encoder, cells, precision):
    ready = engine(any_encoder, precision, FLIPS)
    expected = ready.encode(cells)
    order = np.random.default_rng(1).permutation(BATCH_SIZE)
    np.testing.assert_array_equal(ready.encode(cells[order]), expected[:, order])
    padded = np.zeros_like(cells)
    padded[:3] = cells[5:]
    np.testing.assert_array_equal(ready.encode(padded)[:, :3], expected[:, 5:])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stored_flip_equals_encoding_the_flipped_image(any_encoder, cells, precision):
    flips = engine(any_encoder, precision, FLIPS).encode(cells)
    identity = engine(any_encoder, precision)
    for view, flipped in enumerate(
        [cells, cells[:, :, ::-1], cells[:, ::-1], cells[:, ::-1, ::-1]]
    ):
        expected = identity.encode(np.ascontiguousarray(flipped))[0]
        np.testing.assert_array_equal(flips[view], expected, err_msg=FLIPS[view])
    assert not np.array_equal(flips[0], flips[1])


def test_bf16_is_close_to_fp32(resnet, cells):
    exact = engine(resnet).encode(cells)
    rounded = engine(resnet, "bf16").encode(cells)
    assert not np.array_equal(exact, rounded)
    assert cosines(exact, rounded).min() > 0.9995


def test_pixels_are_normalised_by_the_encoders_mean_and_deviation(any_encoder, cells):
    mean, std = torch.tensor(any_encoder.mean), torch.tensor(any_encoder.std)
    pixels = (torch.from_numpy(cells) / 255 - mean) / std
    with torch.inference_mode():
        expected = any_encoder.module(pixels.permute(0, 3, 1, 2).contiguous())
    found = engine(any_encoder).encode(cells)[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_the_encoder_is_left_in_float32(any_encoder, cells):
    engine(any_encoder, "bf16").encode(cells)
    assert {p.dtype for p in any_encoder.module.parameters()} == {torch.float32}


class SmallMemory(torch.nn.Module):
    """A module for which a device has room for so many images at once."""

    def __init__(self, module, room):
        super().__init__()
        self.module, self.room, self.sizes = module, room, []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.module(images)


@pytest.mark.parametrize("device", ["cpu", "played", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_device_out_of_memory_takes_halves_from_then_on(resnet, cells, device, request):
    if device == "played":
        request.getfixturevalue("played")
        device = "cuda"
    ready = engine(resnet, "fp32", FLIPS[:2], torch.device(device))
    expected = ready.encode(cells[:7])
    ready._module = memory = SmallMemory(ready._module, 2)
    ready._compute = lambda images: ready._features(images.to(device))  # no recording of before
    np.testing.assert_allclose(ready.encode(cells[:7]), expected, rtol=1e-3, atol=1e-5)
    assert ready.num_halvings == 2
    del memory.sizes[:]
    found = ready.encode(cells[:7])
    assert set(memory.sizes) == {1}, "7 in quarters, nothing tried again"
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_array_equal(ready.encode(cells[order]), found[:, order])
    memory.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        ready.encode(cells[:7])


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_replayed_recording_gives_the_bits_of_kernels_launched_one_by_one(
    gpu, any_encoder, cells, precision
):
    device = torch.device("cuda")
    ready = engine(any_encoder, precision, FLIPS, device)
    plain = engine(any_encoder, precision, FLIPS, device)
    plain._compute = lambda images: plain._features(images.to(device))
    for batch in (cells, cells[::-1].copy(), 255 - cells, cells[:3], cells):
        np.testing.assert_array_equal(ready.encode(batch), plain.encode(batch))
    assert ready._compute._can_record


@pytest.mark.gpu
def test_a_recording_leaves_an_engine_usable_after_the_memory_ran_out(resnet, cells):
    device = torch.device("cuda")
    expected = engine(resnet, "fp32", FLIPS, device).encode(cells)
    free, _ = torch.cuda.mem_get_info(device)
    ballast = torch.empty(free - 2**28, dtype=torch.uint8, device=device)
    try:
        ready = engine(resnet, "fp32", FLIPS, device)
        images = np.tile(cells, (512, 1, 1, 1))
        found = ready.encode(images)
    finally:
        del ballast
        torch.cuda.empty_cache()
    assert ready.num_halvings
    np.testing.assert_allclose(found[:, : len(cells)], expected, rtol=1e-3, atol=1e-4)


def test_cuda_in_fp16_gives_the_cpus_features_and_keeps_them_apart(gpu, resnet, cells):
    exact = engine(resnet, "fp32", FLIPS).encode(cells)
    ready = engine(resnet, "fp16", FLIPS, torch.device("cuda"))
    found = ready.encode(cells)
    assert cosines(exact, found).min() > 0.9995
    order = np.random.default_rng(1).permutation(BATCH_SIZE)
    np.testing.assert_array_equal(ready.encode(cells[order]), found[:, order])
    full = engine(resnet, "fp32", FLIPS, torch.device("cuda")).encode(cells)
    np.testing.assert_allclose(full, exact, rtol=1e-3, atol=1e-5)
