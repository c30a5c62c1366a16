"""SwAV: a view's prototype is predicted from the cell's other views."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softmax

from aml_mil.ranks import gather_rows, num_ranks, rank
from aml_mil.ssl.config import (
    PretrainConfig,
    require_at_least,
    require_positive,
    require_scales,
    require_share,
    with_shared_settings,
)
from aml_mil.ssl.heads import Prototypes, SwavHead
from aml_mil.ssl.method import (
    Method,
    OptimiserSettings,
    RunLength,
    StepOutput,
    StepValues,
    encode_crops,
    peak_lr,
)
from aml_mil.ssl.queue import ProjectionQueue
from aml_mil.ssl.swav_loss import swav_loss
from aml_mil.ssl.views import CropRecipe, Views

TRUST_COEFFICIENT = 0.001  # Source: V.
NUM_GLOBAL = 2  # Source: P.
FINAL_LR_SHARE = 0.001  # Source: V.


@with_shared_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class SwavConfig(PretrainConfig):
    """Settings of SwAV; SGD with momentum 0.9 (P) and LARC with a trust of 0.001 (V).

    Attributes:
        epochs: Length of the run. Source: P.
        lr: Peak learning rate at batch size 256, in proportion at others; a cosine then brings it
            to a thousandth. Source: V (S has 0.6).
        weight_decay: Of weights; biases and norms have none. Source: V.
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
            Source: V (2.5%).
        temperature: Divides the cosines in the prediction. Source: P.
        epsilon: Entropy of the assignments. Source: V.
        sinkhorn_iterations: Of the assignments. Source: V.
        prototypes: Directions that cells are assigned to. Source: P.
        freeze: How long the prototypes stay as they were drawn: below 1 a share of the run, else
            epochs. Source: V (the first epoch, of P's 500).
        head_hidden: Width of the two layers inside the head. Source: P.
        head_out: Dimensions of the sphere. Source: P.
        head_output_norm: A batch norm, without scale and shift, of what goes onto the sphere: a
            random encoder's features all point one way, and short runs need them told apart from
            the first step. Source: ours.
        queue_length: Earlier projections that take part in balancing, if the batch is smaller than
            the number of prototypes; 0 for never. Source: V.
        queue_start: When the queue is first used: below 1 a share of the run, else epochs.
            Source: V (epoch 15, of P's 500).
        local_crops: Small crops beside the two global ones. Source: P, V.
        local_size_px: Side of the small crops. Source: ours (96 of 224 px, in proportion).
        split_scale: Largest local and smallest global crop, as a share of the area. Source: V.
        min_scale: Smallest local crop. Source: V.
        jitter: Largest change of brightness, contrast and saturation; a quarter of it for the
            hue. Source: V.
    """

    warmup: float = 0.025
    temperature: float = 0.1
    epsilon: float = 0.05
    sinkhorn_iterations: int = 3
    prototypes: int = 300
    freeze: float = 1 / 500
    head_hidden: int = 2048
    head_out: int = 128
    head_output_norm: bool = False
    queue_length: int = 3840
    queue_start: float = 15 / 500
    local_crops: int = 6
    local_size_px: int = 64
    split_scale: float = 0.14
    min_scale: float = 0.05
    jitter: float = 0.8

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        require_positive(self, "temperature", "epsilon")
        require_scales(self, "min_scale", "split_scale")
        require_share(self, "jitter")
        require_at_least(self, 1, "sinkhorn_iterations", "head_hidden", "head_out")
        require_at_least(self, 2, "prototypes", "batch_size")
        require_at_least(self, 0, "freeze", "queue_length", "queue_start", "local_crops")
        require_at_least(self, 1, "local_size_px")

    @property
    def uses_queue(self) -> bool:
        """Whether the batch is too small to be balanced over the prototypes by itself."""
        return self.queue_length > 0 and self.batch_size < self.prototypes


class Swav(Method):
    """Encoder, head, prototypes and queue of SwAV.

    Args:
        config: Settings.
        length: Of the run.
    """

    name = "swav"

    def __init__(self, config: SwavConfig, length: RunLength) -> None:
        super().__init__(config, length)
        self.config = config
        self.head = SwavHead(
            self.num_features,
            hidden=(config.head_hidden,) * 2,
            out=config.head_out,
            has_output_norm=config.head_output_norm,
        )
        self.prototypes = Prototypes(config.head_out, config.prototypes)
        self.queue = (
            ProjectionQueue(
                config.queue_length, num_crops=NUM_GLOBAL, num_dimensions=config.head_out
            )
            if config.uses_queue
            else None
        )
        self._newest: list[Tensor] = []
        self._is_queue_due = False

    @property
    def chance_loss(self) -> float:
        """Ln P: all prototypes are equally likely."""
        return math.log(self.config.prototypes)

    @property
    def optimiser(self) -> OptimiserSettings:
        """SGD with LARC."""
        return OptimiserSettings(name="sgd", trust_coefficient=TRUST_COEFFICIENT)

    def views(self) -> Views:
        """Two global crops, then the local ones."""
        config = self.config
        pipelines = [
            CropRecipe(
                size_px=size_px,
                min_scale=low,
                max_scale=high,
                jitter=config.jitter,
                saturation=config.jitter,
                hue=config.jitter / 4,
            ).build()
            for count, size_px, low, high in (
                (NUM_GLOBAL, config.image_size_px, config.split_scale, 1.0),
                (config.local_crops, config.local_size_px, config.min_scale, config.split_scale),
            )
            for _ in range(count)
        ]
        return Views(pipelines, seed=config.seed)

    def values_at(self, step: int) -> StepValues:
        """Warm up, then fall to a thousandth along a cosine."""
        end = FINAL_LR_SHARE * peak_lr(self.config)
        lr = self.scheduled_lr(self.config, step, end=end)
        return StepValues(lr, self.config.weight_decay)

    def before_step(self, step: int) -> None:
        """Tell whether the queue takes part."""
        self._is_queue_due = (
            self.queue is not None
            and step >= self.steps(self.config.queue_start)
            and self.queue.is_full
        )

    def forward(self, crops: Sequence[Tensor], targets: Tensor) -> StepOutput:
        """Assign the global crops, and predict the assignments from all other crops."""
        features = torch.cat(encode_crops(self.backbone, crops))
        projections = self.head(features).chunk(len(crops))
        scores = [self.prototypes(p) for p in projections]
        self._newest = [p.detach() for p in projections[:NUM_GLOBAL]]
        loss = swav_loss(
            scores,
            num_global=NUM_GLOBAL,
            temperature=self.config.temperature,
            epsilon=self.config.epsilon,
            num_iterations=self.config.sinkhorn_iterations,
            queue_scores=self._queue_scores() if self._is_queue_due else None,
        )
        usage = softmax(scores[0].detach().float() / self.config.temperature, 1).mean(0)
        return StepOutput(loss, self._newest[0], usage)

    def before_update(self, step: int) -> None:
        """Keep the prototypes still at first."""
        if step < self.steps(self.config.freeze):
            self.prototypes.weight.grad = None

    def after_update(self, step: int) -> None:
        """Bring the prototypes back to length 1, and remember this batch."""
        self.prototypes.renormalise()
        if self.queue is not None:
            self.queue.push([gather_rows(projections) for projections in self._newest])

    @torch.no_grad()
    def _queue_scores(self) -> list[Tensor]:
        assert self.queue is not None
        # Every process keeps the whole queue, and balances its share of it.
        return [self.prototypes(rows[rank() :: num_ranks()]) for rows in self.queue.rows]
