"""Durations in steps, epochs, examples or percent, through one helper."""

import math
from collections.abc import Callable, Mapping

UNITS = ("steps", "epochs", "examples", "percent")


def to_steps(
    duration: Mapping[str, float | None],
    *,
    setting: str,
    batch_size: int,
    num_examples: int,
    total_steps: int | None = None,
    rounding: Callable[[float], int] = math.ceil,
) -> int:
    """Number of steps, rounded up unless `rounding` says otherwise.

    Args:
        duration: Exactly one of `steps`, `epochs`, `examples`, `percent` (of `total_steps`) is not None.
        setting: Name for messages.
        batch_size: Global.
        num_examples: Size of the training split.
        total_steps: What `percent` is a percentage of; without it percent is refused.

    Raises:
        ValueError: none or several units given, an unknown unit, a negative number.
    """
    given = {unit: value for unit, value in duration.items() if value is not None}
    if len(given) != 1 or not set(given) <= set(UNITS):
        raise ValueError(f"{setting}={given}: give exactly one of {', '.join(UNITS)}.")
    [(unit, value)] = given.items()
    if not value >= 0 or math.isinf(value):
        raise ValueError(f"{setting}.{unit}={value} must be a number >= 0.")
    if unit == "steps":
        return rounding(value)
    if unit == "examples":
        return rounding(value / batch_size)
    if unit == "epochs":
        return rounding(value * num_examples / batch_size)
    if total_steps is None:
        raise ValueError(f"{setting}.percent={value} has nothing to be a percentage of.")
    return rounding(value / 100 * total_steps)


def run_steps(duration: Mapping[str, float | None], *, batch_size: int, num_examples: int) -> int:
    """Steps of the whole run: one of steps, epochs, examples; `percent` runs that share of it (default 100)."""
    length = {unit: value for unit, value in duration.items() if unit != "percent"}
    sizes = {"batch_size": batch_size, "num_examples": num_examples}
    steps = to_steps(length, setting="duration", **sizes)
    percent = duration.get("percent")
    if percent is not None:
        steps = to_steps({"percent": percent}, setting="duration", total_steps=steps, **sizes)
    if steps < 1:
        raise ValueError(f"duration={dict(duration)} is no step at all.")
    return steps
