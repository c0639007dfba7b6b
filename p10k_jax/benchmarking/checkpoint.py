"""Checkpoints: how long training stands still for one, how long writing goes on behind it, and what that costs."""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from p10k_jax.benchmarking.subject import Subject
from p10k_jax.benchmarking.windows import WARM_UP
from p10k_jax.training.checkpoint import Checkpoints

_SAVES = 4


def bench_checkpoint(subject: Subject, *, steps: int, folder: Path | None) -> dict[str, Any]:
    """Saves the state four times while training goes on; see `docs/speed.md`.

    Args:
        subject: What trains.
        steps: That are timed without a save, to compare with.
        folder: On the disk to be measured; the checkpoints are removed again. None: the system's temporary one.

    Raises:
        OSError: they cannot be written there.
    """
    program = subject.program()
    compiled = program.phases[-1].lowered.compile()
    state = subject.init(program)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    batch = next(subject.training(1))

    def train(count: int | None, going_on=lambda: True) -> float:
        """Steps a second."""
        nonlocal state
        began, done = time.monotonic(), 0
        while going_on() and (count is None or done < count):
            state, metrics = compiled(state, batch.device, *subject.resident)
            jax.block_until_ready(metrics)
            done += 1
        return done / (time.monotonic() - began)

    train(WARM_UP)
    alone = train(steps)
    blocking, background, meanwhile = [], [], []
    with tempfile.TemporaryDirectory(prefix="p10k_jax-checkpoints-", dir=folder) as place:
        checkpoints = Checkpoints(Path(place), metric="top1")
        for number in range(1, _SAVES + 1):
            began = time.monotonic()
            checkpoints.save(state, step=number)
            blocking.append(time.monotonic() - began)
            meanwhile.append(train(None, checkpoints.saving))
            background.append(time.monotonic() - began - blocking[-1])
        checkpoints.close()
    images = subject.config.batch_size
    return {
        "bytes": size,
        "first_blocking_seconds": blocking[0],
        "blocking_seconds": max(blocking[1:]),
        "background_seconds": max(background[1:]),
        "images_per_second": alone * images,
        "images_per_second_meanwhile": min(meanwhile[1:]) * images,
    }
