"""The way from prepared data to batches on the devices, with nothing that learns from them."""

import itertools
import os
import time
from typing import Any

import jax

from p10k_jax.benchmarking.subject import Subject
from p10k_jax.benchmarking.windows import LEAD, WARM_UP


def bench_input(subject: Subject, *, steps: int) -> dict[str, Any]:
    """Figures of `steps` batches; see `docs/speed.md`. Decoding in workers is not in the CPU time."""
    config = subject.config
    batches = subject.training(WARM_UP + steps + LEAD)
    for batch in itertools.islice(batches, WARM_UP):
        jax.block_until_ready(batch.device)
    began, cpu = time.monotonic(), time.process_time()
    for batch in itertools.islice(batches, steps):
        jax.block_until_ready(batch.device)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    images = steps * config.batch_size // jax.process_count()
    return {
        "residency": config.data.residency,
        "canvas_size": config.data.canvas_size,
        "batch_size": config.batch_size,
        "images_per_second": images / seconds,
        "images_per_cpu_second": images / cpu if cpu and not config.data.workers else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
