"""Values that change over a run: learning rate, weight decay, temperature, momentum."""

import math


def cosine_schedule(step: int, *, num_steps: int, start: float, end: float) -> float:
    """Go from one value to another along half a cosine.

    Args:
        step: From 0 to ``num_steps - 1``.
        num_steps: Length of the run.
        start: Exactly the value at step 0.
        end: Exactly the value at the last step.
    """
    if step >= num_steps - 1:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / (num_steps - 1))) / 2


def linear_schedule(step: int, *, num_steps: int, start: float, end: float) -> float:
    """Go from one value to another in a straight line, then stay.

    Args:
        step: From 0, as far as wanted.
        num_steps: Steps until ``end`` is reached; 0 for at once.
        start: Exactly the value at step 0, unless ``num_steps`` is 0.
        end: Exactly the value from step ``num_steps`` on.
    """
    if step >= num_steps:
        return end
    return start + (end - start) * step / num_steps


def warmup_cosine_schedule(
    step: int, *, num_steps: int, num_warmup_steps: int, peak: float, end: float
) -> float:
    """Rise in a straight line from nearly nothing, then fall along half a cosine.

    The first warm-up step is ``peak / num_warmup_steps``, the last is the peak, so that no step is
    wasted on a rate of zero, and none begins at the peak.

    Args:
        step: From 0 to ``num_steps - 1``.
        num_steps: Length of the run.
        num_warmup_steps: 0 for none.
        peak: Exactly the value at the end of the warm-up.
        end: Exactly the value at the last step.
    """
    if step < num_warmup_steps:
        return peak * (step + 1) / num_warmup_steps
    return cosine_schedule(
        step - num_warmup_steps, num_steps=num_steps - num_warmup_steps, start=peak, end=end
    )


def length_in_steps(length: float, *, epochs: int, steps_per_epoch: int) -> int:
    """Turn a length, in epochs or as a share of the run, into steps.

    Args:
        length: Below 1 a share of the run, so that it scales with ``epochs``; from 1 on a number of
            epochs. Any length above 0 is one step at least.
        epochs: Of the run.
        steps_per_epoch: 1 or more.

    Returns:
        At most the steps of the run: ``length_in_steps(0.1, epochs=50, steps_per_epoch=4)`` is 20.
    """
    num_steps = epochs * steps_per_epoch
    wanted = length * num_steps if length < 1 else length * steps_per_epoch
    return min(max(round(wanted), 1 if length > 0 else 0), num_steps)
