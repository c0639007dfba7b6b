"""Steps, timed in windows."""

import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax

from p10k_jax.data.batches import Loaded
from p10k_jax.reporting.pace import Pace

WINDOWS = 3
WARM_UP = 2
# Batches beyond those that are timed: the way to the devices is as full at the end as at the start.
LEAD = 4


def time_windows(
    step: Callable[[Loaded], jax.Array], batches_of: Callable[[int], Iterator[Loaded]], pace: Pace, *, steps: int
) -> dict[str, Any]:
    """Takes `WARM_UP` steps and then `WINDOWS` times `steps`.

    Args:
        step: Starts a step; an array of it that is there when it is done is fetched one step late, as training does.
        batches_of: Gives so many batches.
        pace: Of the program.
        steps: Of a window.

    Returns:
        `images_per_second` (median of the windows), `images_per_second_range`, `data_wait` and `mfu` (those of the
        median window; `mfu` None where the peak is not known).
    """
    batches = batches_of(WARM_UP + WINDOWS * steps + LEAD)
    for batch in itertools.islice(batches, WARM_UP):
        jax.block_until_ready(step(batch))
    told = []
    for _ in range(WINDOWS):
        _window(step, itertools.islice(batches, steps), pace)
        told.append(pace.figures())
    speeds = [one["images_per_second"] for one in told]
    middle = min(told, key=lambda one: abs(one["images_per_second"] - statistics.median_low(speeds)))
    return {"mfu": None} | middle | {"images_per_second_range": [min(speeds), max(speeds)]}


def _window(step: Callable[[Loaded], jax.Array], batches: Iterator[Loaded], pace: Pace) -> None:
    late: list[jax.Array] = []

    def finish() -> None:
        if late:
            jax.device_get(late.pop())
            pace.step_done()

    pace.begin()
    for batch in pace.timed(batches, idle=lambda: all(result.is_ready() for result in late)):
        result = step(batch)
        finish()
        late.append(result)
    finish()
