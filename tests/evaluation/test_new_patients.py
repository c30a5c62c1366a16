"""The encoder of a run is found again, wherever in it the features were taken."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from aml_mil.embedding import SHARED_VIEWS
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.new_patients import check_store, load_run_encoder
from stores import Manifest


def tapped(**where):
    return load_encoder("test_resnet", weights="random:0", image_size_px=32, **where)


def manifest_of(encoder, **further):
    return Manifest(
        encoder=encoder.name,
        architecture=encoder.architecture,
        weights=encoder.weights,
        weights_sha256=encoder.weights_sha256,
        preprocessing={**encoder.preprocessing, "decode": "a rule", **further},
        numerics={},
        views=("identity",),
        feature_shape=encoder.feature_shape,
    )


def run_on(encoder, **further):
    manifest = manifest_of(encoder, **further)
    names = ("encoder", "architecture", "weights", "weights_sha256", "preprocessing")
    document = {name: getattr(manifest, name) for name in names}
    run = SimpleNamespace(
        path=Path("runs/a"), document={"feature_shape": list(encoder.feature_shape)}
    )
    return run, document


@pytest.mark.parametrize("where", [{"layer": "layer3"}, {"features": "map"}])
def test_features_are_taken_where_the_runs_were(where):
    expected = tapped(**where)
    found = load_run_encoder(*run_on(expected))
    assert (found.feature_shape, found.layer) == (expected.feature_shape, expected.layer)


def test_a_store_of_another_layer_is_refused_and_one_with_shared_views_is_not():
    whole = dataclasses.replace(tapped(layer="layer4"), layer=None)
    run, document = run_on(whole)
    check_store(run, document, manifest_of(whole, **{SHARED_VIEWS: {"seed": 0}}), Path("a.zarr"))
    for ours, theirs in ((whole, tapped(layer="layer4")), (tapped(layer="layer4"), whole)):
        with pytest.raises(EvaluationError, match="another encoder"):
            check_store(*run_on(ours), manifest_of(theirs), Path("a.zarr"))
