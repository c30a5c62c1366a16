"""Neighbours among cells: what is gained over a random encoder, by cells and by patients."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_mil.encoders import load_encoder
from aml_mil.runtime import has_native_bf16
from aml_mil.ssl.pool import ImagePool, ImageSource
from benchmarks.pretrain_knn import features_of, paired_gain


def test_the_interval_encloses_the_difference_and_is_zero_for_equals() -> None:
    generator = np.random.default_rng(0)
    patients = [f"p{i % 12}" for i in range(600)]
    correct, baseline = generator.random(600) < 0.8, generator.random(600) < 0.6
    gain = paired_gain(correct, baseline, patients, weights=np.ones(600), num_draws=500)
    assert gain.mean == pytest.approx(correct.mean() - baseline.mean())
    assert 0 < gain.low < gain.mean < gain.high < 0.4
    same = paired_gain(correct, correct, patients, weights=np.ones(600), num_draws=50)
    assert same == (0.0, 0.0, 0.0)


def test_one_patient_of_many_cells_does_not_decide_where_patients_count_alike() -> None:
    patients = ["many"] * 90 + ["few"] * 10
    correct = np.array([False] * 90 + [True] * 10)
    baseline = ~correct
    by_cells = paired_gain(correct, baseline, patients, weights=np.ones(100), num_draws=10)
    alike = np.array([1 / 90] * 90 + [1 / 10] * 10)
    by_patients = paired_gain(correct, baseline, patients, weights=alike, num_draws=10)
    assert by_cells.mean == pytest.approx(-0.8)
    assert by_patients.mean == pytest.approx(0)


def test_images_are_normalised_as_the_encoder_was_trained() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    source = ImageSource(image_id="P/0", path=Path("0.png"), patient_id="P", cell_type="blast")
    pool = ImagePool(
        sources=(source,) * 3, side_px=32, trained_on=("P",), damaged=(), resident=pixels
    )
    loaded = load_encoder("test_resnet", weights="random:0", image_size_px=32)
    encoder = dataclasses.replace(loaded, mean=(0.8, 0.7, 0.75), std=(0.2, 0.25, 0.1))
    scaled = (pixels / 255 - encoder.mean) / encoder.std
    images = torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=has_native_bf16()):
        expected = encoder.module(images)
    torch.testing.assert_close(features_of(encoder, pool), expected, rtol=0.02, atol=0.02)
    assert not torch.allclose(features_of(loaded, pool), expected, rtol=0.02, atol=0.02)
