import csv
import dataclasses
import errno
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aml_mil.encoders import load_encoder, read_checkpoint
from aml_mil.ssl.batch_norm import norms_of
from aml_mil.ssl.errors import DivergedError, PretrainError, ResumeError, TooFewImagesError
from aml_mil.ssl.methods import CONFIGS
from aml_mil.ssl.monitor import encode
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.pretrain import PretrainRun
from tests.ssl.runs import finish, small_run

METHODS = tuple(CONFIGS)


def stop_after(run: PretrainRun, steps: int) -> None:
    records = list(run.train(lambda: run.steps_done == steps))
    assert records[-1].is_stopped
    assert not run.is_done


def courses(run: PretrainRun) -> list[tuple[object, ...]]:
    """All that is measured, but for times."""
    return [
        dataclasses.astuple(dataclasses.replace(r, seconds=None, images_per_s=None))
        for r in run.records
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_undisturbed_one_bit_by_bit(
    method: str, steps: int, pool: ImagePool, tmp_path: Path
) -> None:
    whole = finish(small_run(method, pool, tmp_path / "whole.safetensors"))
    stop_after(small_run(method, pool, tmp_path / "cut.safetensors"), steps)
    resumed = finish(small_run(method, pool, tmp_path / "cut.safetensors", is_resumed=True))
    assert courses(resumed) == courses(whole)
    for a, b in zip(
        resumed.method.state_dict().values(), whole.method.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    first, second = (load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_says_what_embed_and_the_leakage_guard_need(
    method: str, pool: ImagePool, tmp_path: Path
) -> None:
    out = tmp_path / "encoder.safetensors"
    run = finish(small_run(method, pool, out, epochs=1))
    info = read_checkpoint(out)
    assert info.trained_on == ("P0", "P1", "P2", "P3")
    assert info.image_size_px == 32
    assert info.recipe["method"] == method
    assert info.recipe["config"] == run.config.to_json()
    assert info.recipe["versions"]["torch"]
    assert info.recipe["epochs_done"] == 1
    encoder = load_encoder(str(out))
    images, device = run.sample.images[:4], torch.device("cpu")
    with norms_of(run.method.exported, run.typical.batches(device)):
        expected = encode(run.method.exported, images, device=device)
    torch.testing.assert_close(encode(encoder.module, images, device=device), expected)


@pytest.mark.parametrize("method", ["simclr", "swav", "dino"])
def test_an_encoder_learnt_without_types_is_the_same_whichever_cells_have_one(
    method: str, pool: ImagePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aml_mil.ssl.monitor.NUM_IMAGES", 8)
    learnt = []
    for owner in ("P0", "P1"):
        sources = tuple(
            dataclasses.replace(s, cell_type=s.cell_type if s.patient_id == owner else "")
            for s in pool.sources
        )
        out = tmp_path / f"{owner}.safetensors"
        run = finish(small_run(method, dataclasses.replace(pool, sources=sources), out, epochs=1))
        assert run.sample.patients.count(owner) == 6
        learnt.append(load_file(out))
    assert all(torch.equal(learnt[0][name], learnt[1][name]) for name in learnt[0])


@pytest.mark.parametrize(
    "method", ["simclr", *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[1:])]
)
def test_the_loss_falls_when_the_same_cells_come_again_and_again(
    method: str, pool: ImagePool, tmp_path: Path
) -> None:
    lr = {"simclr": 20.0, "swav": 20.0, "dino": 0.02, "supervised": 0.02}[method]
    run = finish(small_run(method, pool, tmp_path / "e.safetensors", epochs=12, lr=lr, warmup=0.1))
    losses = [record.loss for record in run.records[1:]]
    assert sum(losses[-3:]) < 0.97 * sum(losses[:3])


def test_the_history_is_written_with_a_picture(pool: ImagePool, tmp_path: Path) -> None:
    run = finish(small_run("swav", pool, tmp_path / "e.safetensors", epochs=2))
    with (tmp_path / "e.history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["loss"] for row in rows][1:] == [repr(r.loss) for r in run.records[1:]]
    assert rows[0]["loss"] == ""
    assert float(rows[0]["chance_loss"]) == pytest.approx(math.log(12))
    assert (tmp_path / "e.history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", METHODS)
def test_the_first_row_is_measured_as_the_others_are(
    method: str, pool: ImagePool, tmp_path: Path
) -> None:
    run = finish(small_run(method, pool, tmp_path / "e.safetensors", epochs=1, lr=1e-9))
    before, after = run.records
    assert after.rankme == pytest.approx(before.rankme, rel=1e-3)
    assert after.knn_accuracy == before.knn_accuracy


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_state(
    pool: ImagePool, tmp_path: Path
) -> None:
    out = tmp_path / "e.safetensors"
    run = small_run("simclr", pool, out)
    records = run.train()
    while next(records).epoch is None or run.steps_done == 0:
        pass
    kept = out.read_bytes(), run.paths.state.read_bytes()
    with torch.no_grad():
        run.method.head[0].weight.fill_(math.nan)
    with pytest.raises(DivergedError, match="last good checkpoint is kept"):
        list(records)
    assert (out.read_bytes(), run.paths.state.read_bytes()) == kept
    assert all(tensor.isfinite().all() for tensor in load_file(out).values())


def test_a_stop_does_not_save_a_loss_that_is_not_a_number(pool: ImagePool, tmp_path: Path) -> None:
    run = small_run("simclr", pool, tmp_path / "e.safetensors")
    records = run.train(lambda: run.steps_done == 1)
    next(records)
    kept = run.paths.state.read_bytes()
    with torch.no_grad():
        run.method.head[0].weight.fill_(math.nan)
    with pytest.raises(DivergedError):
        list(records)
    assert run.paths.state.read_bytes() == kept


def test_a_full_disk_keeps_the_last_state(
    pool: ImagePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.safetensors"
    run = small_run("simclr", pool, out)
    records = run.train()
    while next(records).epoch is None or run.steps_done == 0:
        pass
    kept = run.paths.state.read_bytes()

    def write_on_a_full_disk(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stores.files.os.write", write_on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        list(records)
    monkeypatch.undo()
    assert run.paths.state.read_bytes() == kept
    assert {path.name for path in tmp_path.glob("e.*")} == {
        "e.safetensors",
        "e.state.safetensors",
        "e.history.csv",
    }
    resumed = finish(small_run("simclr", pool, out, is_resumed=True))
    whole = finish(small_run("simclr", pool, tmp_path / "w.safetensors"))
    assert courses(resumed) == courses(whole)


def test_another_run_s_files_are_not_overwritten(pool: ImagePool, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    finish(small_run("simclr", pool, out, epochs=1))
    with pytest.raises(ResumeError, match="--resume continues"):
        small_run("simclr", pool, out, epochs=1)


def test_nothing_to_resume_is_said(pool: ImagePool, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="nothing to resume"):
        small_run("simclr", pool, tmp_path / "e.safetensors", is_resumed=True)


def test_only_the_same_run_is_resumed(pool: ImagePool, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    stop_after(small_run("simclr", pool, out), 1)
    with pytest.raises(ResumeError, match="a run of simclr, not of dino"):
        small_run("dino", pool, out, is_resumed=True)
    with pytest.raises(ResumeError, match=r"lr: 2\.0 there, 3\.0 asked for"):
        small_run("simclr", pool, out, is_resumed=True, lr=3.0)
    others = dataclasses.replace(pool, sources=pool.sources[::-1])
    with pytest.raises(ResumeError, match="other images"):
        small_run("simclr", others, out, is_resumed=True)
    assert small_run("simclr", pool, out, is_resumed=True, cache_gib=3.0).steps_done == 1


def test_a_damaged_state_is_refused(pool: ImagePool, tmp_path: Path) -> None:
    run = small_run("simclr", pool, tmp_path / "e.safetensors")
    stop_after(run, 1)
    run.paths.state.write_bytes(run.paths.state.read_bytes()[:-100])
    with pytest.raises(ResumeError, match="not a whole saved state"):
        small_run("simclr", pool, tmp_path / "e.safetensors", is_resumed=True)


def test_a_finished_run_resumed_does_nothing(pool: ImagePool, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    finish(small_run("simclr", pool, out, epochs=1))
    before = out.read_bytes()
    run = small_run("simclr", pool, out, epochs=1, is_resumed=True)
    assert run.is_done
    assert list(run.train()) == []
    assert out.read_bytes() == before


def test_too_few_readable_images_are_refused(pool: ImagePool, tmp_path: Path) -> None:
    with pytest.raises(TooFewImagesError, match="24 images do not fill one batch of 30"):
        small_run("simclr", pool, tmp_path / "e.safetensors", batch_size=30)
    assert not list(tmp_path.glob("e.*"))
    assert issubclass(TooFewImagesError, PretrainError)


@pytest.mark.parametrize("method", ["swav", "dino"])
def test_an_encoder_of_one_image_size_is_not_given_smaller_crops(
    method: str, pool: ImagePool, tmp_path: Path
) -> None:
    out, changes = tmp_path / "e.safetensors", {"architecture": "test_vit3", "epochs": 1}
    with pytest.raises(PretrainError, match=r"does not take local crops of 16 px .* to 32,"):
        finish(small_run(method, pool, out, **changes))
    assert not list(tmp_path.glob("e.*"))
    assert finish(small_run(method, pool, out, **changes, local_size_px=32)).is_done
    out = tmp_path / "f.safetensors"
    assert finish(small_run(method, pool, out, **changes, local_crops=0)).is_done


def test_collapse_is_said_once_and_recorded_in_the_checkpoint(
    pool: ImagePool, tmp_path: Path
) -> None:
    out = tmp_path / "e.safetensors"
    run = small_run("simclr", pool, out, lr=1e-9)
    run.method.head[2].weight.requires_grad_(requires_grad=False)
    with torch.no_grad():
        run.method.head[2].weight.zero_()
        run.method.head[2].bias.fill_(1.0)
    alarms = [alarm.kind for record in run.train() for alarm in record.alarms]
    assert sorted(alarms) == ["loss", "spread"]
    recorded = read_checkpoint(out).recipe["alarms"]
    assert sorted(alarm["kind"] for alarm in recorded) == ["loss", "spread"]
    assert run.records[-1].alarms == "loss spread"


def test_images_in_memory_and_on_the_disk_train_the_same(pool: ImagePool, tmp_path: Path) -> None:
    first = finish(small_run("simclr", pool, tmp_path / "a.safetensors", epochs=1))
    streamed = dataclasses.replace(pool, resident=None)
    second = finish(small_run("simclr", streamed, tmp_path / "b.safetensors", epochs=1))
    assert courses(first) == courses(second)
