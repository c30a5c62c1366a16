import math

import pytest
import torch

from aml_mil.ssl.method import RunLength, build_backbone, encode_crops
from aml_mil.ssl.methods import CONFIGS, build_method
from aml_mil.ssl.trainer import Trainer
from tests.ssl.runs import small_config

LENGTH = RunLength(epochs=30, steps_per_epoch=10)


def build(method: str, **changes: object):
    torch.manual_seed(0)
    config = small_config(method, **({"epochs": 30} | changes))
    return build_method(config, LENGTH, num_types=3)


def batch(method, num_images: int = 8) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = [p.transforms[1 if len(p.transforms) > 5 else 3] for p in method.views().pipelines]
    crops = []
    for transform in sizes:
        side = transform.size[0] if hasattr(transform, "size") else transform.height
        shape = (num_images, side, side, 3)
        crops.append(torch.randint(256, shape, generator=generator, dtype=torch.uint8))
    return crops, torch.arange(num_images) % 3


@pytest.mark.parametrize("method", CONFIGS)
def test_half_the_precision_gives_nearly_the_same_loss(method: str) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        built = build(method)
        trainer = Trainer(built, device=torch.device("cpu"), precision=precision)
        losses[precision] = float(trainer.step(*batch(built), step=0).loss)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_prototypes_are_frozen_at_first_and_stay_on_the_sphere() -> None:
    built = build("swav", freeze=1 / 30)
    trainer = Trainer(built, device=torch.device("cpu"), precision="fp32")
    before = built.prototypes.weight.clone()
    for step in range(10):
        trainer.step(*batch(built), step=step)
    torch.testing.assert_close(built.prototypes.weight, before)
    trainer.step(*batch(built), step=10)
    assert not torch.allclose(built.prototypes.weight, before, atol=1e-7)
    torch.testing.assert_close(built.prototypes.weight.norm(dim=1), torch.ones(12))


def test_dino_s_last_layer_is_frozen_at_first() -> None:
    built = build("dino", freeze=2.0, lr=0.1, warmup=0.0)
    trainer = Trainer(built, device=torch.device("cpu"), precision="fp32")
    before = built.head.last.weight.clone()
    for step in (0, 19):
        trainer.step(*batch(built), step=step)
    assert torch.equal(built.head.last.weight, before)
    trainer.step(*batch(built), step=20)
    assert not torch.equal(built.head.last.weight, before)


def test_the_teacher_gets_no_gradient_and_follows_the_student() -> None:
    built = build("dino", ema=0.5, lr=0.1, warmup=0.0)
    trainer = Trainer(built, device=torch.device("cpu"), precision="fp32")
    old = [p.clone() for p in built.teacher["backbone"].parameters()]
    trainer.step(*batch(built), step=0)
    pairs = zip(
        old,
        built.teacher["backbone"].parameters(),
        built.backbone.parameters(),
        strict=True,
    )
    for before, teacher, student in pairs:
        assert teacher.grad is None
        torch.testing.assert_close(teacher, (before + student) / 2)
    assert built.centre.value.any()
    assert built.exported is built.teacher["backbone"]


def test_dino_s_logits_are_looked_at_about_their_centre() -> None:
    def looked_at(centre: float) -> torch.Tensor:
        built = build("dino")
        built.centre.value.fill_(centre)
        step = Trainer(built, device=torch.device("cpu"), precision="fp32").step
        found = step(*batch(built), step=0).projections
        assert found is not None
        return found

    torch.testing.assert_close(looked_at(0.5), looked_at(0.0) - 0.5)


def test_dino_s_schedules_have_the_recipe_s_ends() -> None:
    built = build("dino", batch_size=256)
    first, last = built.values_at(0), built.values_at(LENGTH.num_steps - 1)
    assert first.weight_decay == pytest.approx(0.04)
    assert last.weight_decay == 0.4
    assert last.lr == 1e-6
    assert built.values_at(9).lr == pytest.approx(0.0005)
    temperatures = []
    for step in (0, 15, 30, 299):
        built.before_step(step)
        temperatures.append(built._teacher_temperature)
    assert temperatures == pytest.approx([0.04, 0.055, 0.07, 0.07])


@pytest.mark.parametrize(("batch_size", "peak"), [(256, 0.3), (512, 0.6), (128, 0.15)])
def test_the_learning_rate_grows_with_the_batch(batch_size: int, peak: float) -> None:
    for method, end in (("simclr", 0.0), ("swav", peak / 1000)):
        built = build(method, batch_size=batch_size, lr=0.3, warmup=0.1)
        rates = [built.values_at(step).lr for step in range(LENGTH.num_steps)]
        assert max(rates) == pytest.approx(peak)
        assert rates.index(max(rates)) == 29
        assert rates[0] == pytest.approx(peak / 30)
        assert rates[-1] == pytest.approx(end)


def test_the_queue_is_used_once_it_is_full_and_due() -> None:
    built = build("swav", queue_start=0.0)
    trainer = Trainer(built, device=torch.device("cpu"), precision="fp32")
    used = []
    for step in range(4):
        trainer.step(*batch(built), step=step)
        used.append(built._is_queue_due)
    assert used == [False, False, True, True]
    late = build("swav", queue_start=1.0)
    late.queue.load_state_dict(built.queue.state_dict())
    late.before_step(9)
    assert not late._is_queue_due
    late.before_step(10)
    assert late._is_queue_due


@pytest.mark.parametrize(
    ("method", "chance"),
    [
        ("simclr", math.log(15)),
        ("swav", math.log(12)),
        ("dino", math.log(12)),
        ("supervised", math.log(3)),
    ],
)
def test_the_loss_of_chance_is_known(method: str, chance: float) -> None:
    assert build(method).chance_loss == pytest.approx(chance)


def test_crops_of_one_size_share_a_pass_and_keep_their_order() -> None:
    passes = []

    def network(images: torch.Tensor) -> torch.Tensor:
        passes.append(len(images))
        return images.mean((1, 2, 3))

    crops = [torch.full((2, 3, s, s), float(i)) for i, s in enumerate((8, 8, 4, 4, 4))]
    outputs = encode_crops(network, crops)
    assert passes == [4, 6]
    assert [output.tolist() for output in outputs] == [[float(i)] * 2 for i in range(5)]


def test_recomputed_activations_change_neither_loss_nor_gradients_nor_statistics() -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network, _ = build_backbone(
            small_config("simclr", architecture="resnet18", checkpointing=checkpointing)
        )
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        network(images).square().mean().backward()
        gradients = [p.grad for p in network.parameters()]
        statistics = [b for n, b in network.named_buffers() if "running" in n]
        results.append((gradients, statistics))
    for plain, recomputed in zip(*results, strict=True):
        for a, b in zip(plain, recomputed, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_encoder_keeps_its_names_and_results() -> None:
    results = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        network, _ = build_backbone(small_config("simclr", compile=is_compiled))
        network.eval()
        images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            results.append((list(network.state_dict()), network(images)))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)
