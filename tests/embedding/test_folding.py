"""Batch normalisations folded into convolutions: the same features, one pass less."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.folding import fold_batch_norms
from aml_mil.embedding.numerics import FOLDED, choose_numerics, follow_numerics
from aml_mil.encoders import load_encoder

CONFIG = EmbedConfig(engine="torch", precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def trained():
    """A ResNet-18 whose normalisations do something."""
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=64)
    module = copy.deepcopy(encoder.module)
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias.data):
                values.copy_(torch.randn(values.shape, generator=generator) / 10)
            for values in (layer.running_var, layer.weight.data):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return replace(encoder, module=module)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999999), ("bf16", 0.9995)])
def test_folding_changes_features_by_rounding_only(trained, precision, least):
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    build = {"device": torch.device("cpu"), "views": ("identity",)}
    exact = TorchEngine(trained, precision="fp32", **build).encode(images)[0]
    folded = TorchEngine(trained, precision=precision, is_folded=True, **build).encode(images)[0]
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(folded, axis=1)
    assert ((exact * folded).sum(1) / lengths).min() > least
    assert not np.array_equal(exact, folded)
    assert any(isinstance(m, nn.BatchNorm2d) for m in trained.module.modules()), "a copy is folded"


def test_every_normalisation_of_a_resnet_is_folded(trained):
    module = copy.deepcopy(trained.module)
    assert fold_batch_norms(module) == 20
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


class Twice(nn.Module):
    """What comes out of the convolution is wanted before the normalisation, too."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images):
        maps = self.conv(images)
        return maps + self.norm(maps)


class Shared(Twice):
    """One convolution in two places, only one of them followed by the normalisation."""

    def forward(self, images):
        return self.norm(self.conv(self.conv(images)))


class First(Twice):
    """A normalisation without a convolution before it."""

    def forward(self, images):
        return self.conv(self.norm(images))


class Branching(Twice):
    """Cannot be traced."""

    def forward(self, images):
        return self.norm(self.conv(images)) if images.sum() > 0 else images


@pytest.mark.parametrize("kind", [Twice, Shared, First, Branching])
def test_what_cannot_be_folded_is_left_as_it_is(kind):
    module = kind().eval()
    module.norm.running_mean += 1
    images = torch.rand((2, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = module(images)
        assert fold_batch_norms(module) == 0
        assert torch.equal(module(images), expected)


def test_a_store_goes_on_as_it_was_begun(trained):
    new = choose_numerics(CONFIG, trained)
    assert new.record[FOLDED] is True
    for recorded in (new.record, {k: v for k, v in new.record.items() if k != FOLDED}):
        followed = follow_numerics(new, recorded, config=CONFIG, encoder=trained)
        assert followed.record == recorded
