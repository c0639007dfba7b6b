"""Learning-rate schedules by name: a step to a rate."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Array | int], Float[Array, ""]]


def _cosine(progress: Array, steps: int) -> Array:
    del steps
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _linear(progress: Array, steps: int) -> Array:
    del steps
    return 1 - progress


def _constant(progress: Array, steps: int) -> Array:
    del steps
    return jnp.ones_like(progress)


def _rsqrt(progress: Array, steps: int) -> Array:
    return jnp.sqrt(_RSQRT_TIMESCALE / (_RSQRT_TIMESCALE + progress * steps))


# Steps after which the rate is 0.7 of its peak (Zhai et al., arXiv 2106.04560, appendix B).
_RSQRT_TIMESCALE = 10_000

# (share of the run after the warm-up in 0..1, its steps) -> share of the way from `end` to the peak.
SCHEDULES = {"cosine": _cosine, "linear": _linear, "constant": _constant, "rsqrt": _rsqrt}


def make_schedule(
    name: str, *, peak: float, warmup_steps: int, total_steps: int, cooldown_steps: int = 0, end: float = 0.0
) -> Schedule:
    """Linear from 0 to `peak` over `warmup_steps`, then the curve of that name, then linear to `end`.

    The first step already moves (it takes peak / warmup_steps).

    Args:
        name: `cosine` and `linear` reach `end` at `total_steps`; `constant` and `rsqrt` do not by themselves.
        peak: Above 0.
        warmup_steps, total_steps: From the start.
        cooldown_steps: The last steps, over which the rate goes to `end` linearly on top of its curve.
        end: Least rate.

    Raises:
        ValueError: an unknown name, a warm-up and cool-down that do not leave a step between them, a rate out of range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule.name={name!r}. Known: {', '.join(SCHEDULES)}.")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"schedule.warmup is {warmup_steps} steps of {total_steps}: it must be shorter than the run.")
    if not 0 <= cooldown_steps <= total_steps - warmup_steps:
        raise ValueError(
            f"schedule.cooldown is {cooldown_steps} steps, but the warm-up leaves {total_steps - warmup_steps}."
        )
    if not peak > 0:
        raise ValueError(f"optimizer.learning_rate={peak} must be positive.")
    if not 0 <= end <= peak:
        raise ValueError(f"schedule.end={end} is outside 0..{peak}, the peak.")

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        steps = total_steps - warmup_steps
        share = SCHEDULES[name](jnp.clip((step - warmup_steps) / steps, 0.0, 1.0), steps)
        if cooldown_steps:
            share = share * jnp.clip((total_steps - step) / cooldown_steps, 0.0, 1.0)
        return jnp.where(step < warmup_steps, peak * (step + 1) / max(1, warmup_steps), end + (peak - end) * share)

    return rate
