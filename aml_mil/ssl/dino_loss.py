"""DINO's loss: the student's view must agree with the teacher's other view.

Shapes: B images, K outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

from aml_mil.ranks import mean_over_ranks
from aml_mil.ssl.ntxent import at_least_float32


def dino_loss(
    student_logits: Sequence[Tensor],
    teacher_logits: Sequence[Tensor],
    *,
    centre: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Compare each of the teacher's crops with every other crop of the student.

    Args:
        student_logits: [B, K] of each crop, the teacher's crops first.
        teacher_logits: [B, K] of the global crops; no gradient flows into them.
        centre: Running mean of the teacher's logits, [K], subtracted so that no output wins always.
        student_temperature: Divides the student's logits, above 0.
        teacher_temperature: Divides the teacher's centred logits, above 0; smaller is sharper.

    Returns:
        Mean cross-entropy in nats over images and pairs of different crops; log K if student and
        centred teacher are uniform.

    Raises:
        ValueError: No pair of different crops is left.

    Source:
        Caron et al. 2021, eq. 1-4, https://arxiv.org/abs/2104.14294
    """
    if not teacher_logits or len(student_logits) < max(2, len(teacher_logits)):
        message = (
            "expected teacher crops, and at least 2 student crops that begin with them, "
            f"got {len(teacher_logits)} and {len(student_logits)}"
        )
        raise ValueError(message)
    with torch.autocast(student_logits[0].device.type, enabled=False):
        predictions = [
            log_softmax(at_least_float32(logits) / student_temperature, 1)
            for logits in student_logits
        ]
        terms: list[Tensor] = []
        for crop, logits in enumerate(teacher_logits):
            sharpened = (at_least_float32(logits.detach()) - centre) / teacher_temperature
            target = softmax(sharpened, 1)
            terms.extend(
                -(target * prediction).sum(1).mean()
                for other, prediction in enumerate(predictions)
                if other != crop
            )
        return torch.stack(terms).mean()


class Centre(nn.Module):
    """Running mean of the teacher's logits, over the images of all processes.

    Args:
        num_outputs: K.
        momentum: Share of the old centre kept at each update, 0 to 1.

    Attributes:
        value: [K], zero at first; part of the state.
    """

    value: Tensor

    def __init__(self, num_outputs: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(num_outputs))

    @torch.no_grad()
    def update(self, teacher_logits: Sequence[Tensor]) -> None:
        """Move towards the mean of this batch's logits, a list of [B, K].

        Source:
            Caron et al. 2021, eq. 4.
        """
        batch_mean = torch.cat([at_least_float32(logits) for logits in teacher_logits]).mean(0)
        self.value.lerp_(mean_over_ranks(batch_mean).to(self.value), 1 - self.momentum)
