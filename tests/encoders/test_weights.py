"""Weights files: strict loading, and nothing that could run code."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from aml_mil.encoders import WeightsError, load_encoder
from aml_mil.encoders.weights import hash_tensors

TINY = "test_resnet"
SIZE_PX = 32


@pytest.fixture(scope="module")
def tensors():
    encoder = load_encoder(TINY, weights="random:5", image_size_px=SIZE_PX)
    return dict(encoder.module.backbone.state_dict())


def load(path, name=TINY):
    return load_encoder(name, weights=path, image_size_px=SIZE_PX).module.backbone.state_dict()


class RunsCode:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_resnet18_weights_are_refused_by_a_resnet34_which_says_the_keys(tmp_path):
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    path = tmp_path / "resnet18.safetensors"
    save_file(encoder.module.backbone.state_dict(), path)
    with pytest.raises(WeightsError) as caught:
        load(path, "resnet34")
    message = str(caught.value)
    assert "missing: layer1.2.conv1.weight, " in message
    assert "unexpected" not in message
    assert message.count("layer") == 5, "at most five keys of a kind are named"
    assert "(80)" in message


def test_every_kind_of_misfit_is_listed(tmp_path, tensors):
    wrong = {**tensors, "conv9.weight": torch.zeros(1), "conv1.0.weight": torch.zeros(2, 2)}
    del wrong["bn1.bias"]
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "wrong.safetensors")
    message = str(caught.value)
    assert "missing: bn1.bias (1)" in message
    assert "unexpected: conv9.weight (1)" in message
    assert "mismatched: conv1.0.weight (expected [" in message
    assert "got [2, 2]) (1)" in message


def test_the_classifier_is_left_out_by_name_and_nothing_that_resembles_it(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    save_file({**tensors, "fc.weight": torch.zeros(8, 96), "fc.bias": torch.zeros(8)}, path)
    assert torch.equal(load(path)["bn1.bias"], tensors["bn1.bias"])
    save_file({**tensors, "fc2.weight": torch.zeros(8, 96)}, path)
    with pytest.raises(WeightsError, match=r"unexpected: fc2\.weight \(1\)"):
        load(path)


def test_half_precision_on_disk_becomes_float32(tmp_path, tensors):
    path = tmp_path / "half.safetensors"
    save_file({k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}, path)
    loaded = load(path)
    assert {t.dtype for t in loaded.values()} == {torch.float32, torch.int64}
    assert torch.equal(loaded["conv1.0.weight"], tensors["conv1.0.weight"].half().float())


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pth.tar"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: OrderedDict(t),
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": {f"module.{name}": tensor for name, tensor in t.items()}},
    ],
    ids=["plain", "ordered", "state_dict", "model of DDP"],
)
def test_files_of_torch_load_in_their_common_wrappings(tmp_path, tensors, wrap, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(tensors), path)
    loaded = load(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, tensors, capsys):
    path = tmp_path / "evil.pt"
    torch.save({**tensors, "extra": RunsCode()}, path)
    with pytest.raises(WeightsError, match="holds more than tensors, which could run code"):
        load(path)
    assert capsys.readouterr().out == ""


def test_a_whole_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="refused"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_a_truncated_file_is_one_clear_error(tmp_path, tensors, name):
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cut\..*copy it again"):
        load(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}])
def test_something_else_than_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="expected tensors by name"):
        load(tmp_path / "other.pt")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"a \.safetensors, \.pt, \.pth or \.pth\.tar"):
        load(tmp_path / "weights.bin")


def test_the_hash_of_tensors_sees_names_shapes_types_and_every_byte():
    base = {"a": torch.arange(6.0), "b": torch.tensor(1)}
    variants = [
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].reshape(2, 3)},
        {**base, "a": base["a"].view(torch.int32)},
        {**base, "a": base["a"].clone().index_fill_(0, torch.tensor([5]), 4.0)},
    ]
    hashes = {hash_tensors(tensors) for tensors in [base, *variants]}
    assert len(hashes) == 5
    assert hash_tensors({"b": base["b"], "a": base["a"]}) in hashes, "order plays no part"
