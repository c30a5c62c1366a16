"""DINO: a student predicts what its own slow average says about another view of the cell."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from aml_mil.ssl.config import (
    PretrainConfig,
    require_at_least,
    require_positive,
    require_scales,
    require_share,
    with_shared_settings,
)
from aml_mil.ssl.dino_loss import Centre, dino_loss
from aml_mil.ssl.ema import update_teacher
from aml_mil.ssl.heads import DinoHead
from aml_mil.ssl.larc import clip_gradients
from aml_mil.ssl.method import (
    Method,
    OptimiserSettings,
    RunLength,
    StepOutput,
    StepValues,
    encode_crops,
)
from aml_mil.ssl.schedules import (
    cosine_schedule,
    linear_schedule,
)
from aml_mil.ssl.views import CropRecipe, Views

TRUST_COEFFICIENT = 0.001  # Source: V.
NUM_GLOBAL = 2  # Source: P.
FINAL_LR = 1e-6  # Source: D.
GLOBAL_BLURS = (1.0, 0.1)  # Source: D.
SECOND_SOLARISE = 0.2  # Source: D.


@with_shared_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class DinoConfig(PretrainConfig):
    """Settings of DINO; AdamW with LARC (P), crops and outputs for a ResNet.

    Attributes:
        epochs: Length of the run. Source: P.
        lr: Peak learning rate at batch size 256, in proportion at others; a cosine then brings it
            to 1e-6. Source: D.
        weight_decay: Of weights at the first step; biases and norms have none. Source: D.
        final_weight_decay: At the last step, reached along a cosine. Source: D.
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
            Source: D (10 of 300 epochs).
        student_temperature: Divides the student's logits. Source: P.
        teacher_temperature: Divides the teacher's centred logits. Source: V, D.
        first_teacher_temperature: The same at the first step. Source: V, D.
        teacher_warmup: Linear rise between the two: below 1 a share of the run, else epochs.
            Source: V, D (30 of 300 epochs).
        ema: Share of the teacher kept at the first step; a cosine then brings it to 1. Source: D
            (0.9995 at batch size 256).
        centre_momentum: Share of the centre kept at each step. Source: D.
        freeze: How long the last layer stays as it was drawn: below 1 a share of the run, else
            epochs. Source: D (the first of 300 epochs).
        clip: Largest length of any weight's gradient. Source: D.
        head_hidden: Width of the two layers inside the head. Source: P.
        head_bottleneck: Dimensions before the last layer. Source: P.
        head_batch_norm: Batch norms in the head: a random encoder's features all point one way,
            and short runs need them told apart from the first step. Source: D (an option there).
        head_output_norm: A batch norm, without scale and shift, of what the last layer is given.
            Source: ours, for short runs.
        outputs: Of the last layer. Source: S (D has 65,536).
        local_crops: Small crops beside the two global ones. Source: D.
        local_size_px: Side of the small crops. Source: ours (96 of 224 px, in proportion).
        split_scale: Largest local and smallest global crop, as a share of the area. Source: D for
            ResNets.
        min_scale: Smallest local crop. Source: D.
        jitter: Largest change of brightness and contrast; half of it for the saturation, a
            quarter for the hue. Source: D.
    """

    epochs: int = 300
    lr: float = 0.0005
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    warmup: float = 10 / 300
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    first_teacher_temperature: float = 0.04
    teacher_warmup: float = 30 / 300
    ema: float = 0.996
    centre_momentum: float = 0.9
    freeze: float = 1 / 300
    clip: float = 3.0
    head_hidden: int = 2048
    head_bottleneck: int = 256
    head_batch_norm: bool = False
    head_output_norm: bool = False
    outputs: int = 4096
    local_crops: int = 8
    local_size_px: int = 64
    split_scale: float = 0.14
    min_scale: float = 0.05
    jitter: float = 0.4

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        require_positive(
            self, "student_temperature", "teacher_temperature", "first_teacher_temperature"
        )
        require_positive(self, "clip")
        require_scales(self, "min_scale", "split_scale")
        require_share(self, "ema", "centre_momentum", "jitter")
        require_at_least(self, 0, "final_weight_decay", "teacher_warmup", "freeze", "local_crops")
        require_at_least(self, 1, "head_hidden", "head_bottleneck", "local_size_px")
        require_at_least(self, 2, "outputs", "batch_size")


class Dino(Method):
    """Student, teacher and centre of DINO.

    Args:
        config: Settings.
        length: Of the run.

    Attributes:
        teacher: Backbone and head that follow the student; the backbone is what is saved.
    """

    name = "dino"

    def __init__(self, config: DinoConfig, length: RunLength) -> None:
        super().__init__(config, length)
        self.config = config
        self.head = DinoHead(
            self.num_features,
            hidden=config.head_hidden,
            bottleneck=config.head_bottleneck,
            has_batch_norm=config.head_batch_norm,
            has_output_norm=config.head_output_norm,
            num_outputs=config.outputs,
        )
        self.teacher = copy.deepcopy(nn.ModuleDict({"backbone": self.backbone, "head": self.head}))
        self.teacher.requires_grad_(requires_grad=False)
        self.centre = Centre(config.outputs, momentum=config.centre_momentum)
        self._teacher_temperature = config.first_teacher_temperature
        self._newest: list[Tensor] = []

    @property
    def exported(self) -> nn.Module:
        """The teacher's encoder."""
        return self.teacher["backbone"]

    @property
    def chance_loss(self) -> float:
        """Ln K: all outputs are equally likely."""
        return math.log(self.config.outputs)

    @property
    def optimiser(self) -> OptimiserSettings:
        """AdamW with LARC."""
        return OptimiserSettings(name="adamw", trust_coefficient=TRUST_COEFFICIENT)

    def views(self) -> Views:
        """Two global crops, only the second of them solarised at times, then the local ones."""
        config = self.config
        colour = {
            "jitter": config.jitter,
            "saturation": config.jitter / 2,
            "hue": config.jitter / 4,
        }
        pipelines = [
            CropRecipe(
                size_px=config.image_size_px,
                min_scale=config.split_scale,
                max_scale=1.0,
                blur=blur,
                solarise=solarise,
                **colour,
            ).build()
            for blur, solarise in zip(GLOBAL_BLURS, (0.0, SECOND_SOLARISE), strict=True)
        ]
        local = CropRecipe(
            size_px=config.local_size_px,
            min_scale=config.min_scale,
            max_scale=config.split_scale,
            **colour,
        )
        pipelines += [local.build() for _ in range(config.local_crops)]
        return Views(pipelines, seed=config.seed)

    def values_at(self, step: int) -> StepValues:
        """Warm up and fall along a cosine; the weight decay rises along another."""
        lr = self.scheduled_lr(self.config, step, end=FINAL_LR)
        weight_decay = cosine_schedule(
            step,
            num_steps=self.length.num_steps,
            start=self.config.weight_decay,
            end=self.config.final_weight_decay,
        )
        return StepValues(lr, weight_decay)

    def before_step(self, step: int) -> None:
        """Set the teacher's temperature."""
        self._teacher_temperature = linear_schedule(
            step,
            num_steps=self.steps(self.config.teacher_warmup),
            start=self.config.first_teacher_temperature,
            end=self.config.teacher_temperature,
        )

    def forward(self, crops: Sequence[Tensor], targets: Tensor) -> StepOutput:
        """Compare the teacher's global crops with the student's other crops."""
        student = _logits(self.backbone, self.head, crops)
        with torch.no_grad():
            teacher = _logits(self.teacher["backbone"], self.teacher["head"], crops[:NUM_GLOBAL])
        self._newest = teacher
        loss = dino_loss(
            student,
            teacher,
            centre=self.centre.value,
            student_temperature=self.config.student_temperature,
            teacher_temperature=self._teacher_temperature,
        )
        centred = (teacher[0].float() - self.centre.value) / self._teacher_temperature
        # What all logits share is the centre's, by design; it says nothing of a collapse.
        told_apart = student[0].detach().float() - self.centre.value
        return StepOutput(loss, told_apart, softmax(centred, 1).mean(0))

    def before_update(self, step: int) -> None:
        """Clip each weight's gradient, and keep the last layer still at first."""
        clip_gradients(self.parameters(), max_length=self.config.clip)
        if step < self.steps(self.config.freeze):
            self.head.last.weight.grad = None

    def after_update(self, step: int) -> None:
        """Move the teacher and the centre."""
        momentum = cosine_schedule(
            step, num_steps=self.length.num_steps, start=self.config.ema, end=1.0
        )
        update_teacher(self.teacher["backbone"], self.backbone, momentum=momentum)
        update_teacher(self.teacher["head"], self.head, momentum=momentum)
        self.centre.update(self._newest)


def _logits(backbone: nn.Module, head: nn.Module, crops: Sequence[Tensor]) -> list[Tensor]:
    features = torch.cat(encode_crops(backbone, crops))
    return list(head(features).chunk(len(crops)))
