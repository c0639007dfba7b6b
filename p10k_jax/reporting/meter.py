"""Watches a training loop: fetches metrics one step late, measures its pace, keeps the live line."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import jax

from p10k_jax.hardware import peak_memory
from p10k_jax.reporting.pace import Pace
from p10k_jax.reporting.progress import Console, training_line
from p10k_jax.reporting.writers import MetricWriter

T = TypeVar("T")


class Meter:
    """One a run.

    Args:
        console: For the live line.
        writer: For the rows; None on processes that do not write.
        pace: Of the run, nothing measured yet.
        resumed_at, total_steps: Where the run starts and ends.
        flops: Of a training step on one image of a side in pixels; None where the peak is unknown.
        log_due: Whether a step's metrics are written as a row.
        watch: Sees the metrics of every step, and may raise.
    """

    def __init__(
        self,
        console: Console,
        writer: MetricWriter | None,
        *,
        pace: Pace,
        resumed_at: int,
        total_steps: int,
        log_due: Callable[[int], bool],
        flops: Callable[[int], float | None] = lambda image_size: None,
        watch: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None,
    ):
        self._console, self._writer, self._log_due, self._watch = console, writer, log_due, watch
        self._flops = flops
        self._pace, self._first_step, self._total_steps = pace, resumed_at + 1, total_steps
        self._late: tuple[int, Mapping[str, jax.Array]] | None = None
        self._started = time.monotonic()
        self._speed: dict[str, float] = {}
        self._last: float | None = None
        self._best: float | None = None

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, their waits measured; see `Pace.timed`."""

        def idle() -> bool:
            return self._late is None or all(value.is_ready() for value in self._late[1].values())

        return self._pace.timed(batches, idle=idle)

    def step(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of `step`, still being computed, and reports those of the step before."""
        self.flush()
        self._late = (step, metrics)

    def flush(self) -> None:
        """Waits for the step under way and reports it."""
        if self._late is None:
            return
        step, values = self._late
        self._late = None
        values = {key: float(value) for key, value in jax.device_get(dict(values)).items()}
        if step == self._first_step:  # it held the compilation, so its pace is not known
            self._started = time.monotonic()
            self.begin_window()
        else:
            self._pace.step_done()
            self._speed = self._pace.figures()
        if self._writer and self._log_due(step):
            memory = peak_memory()
            figures = values | self._speed | ({} if memory is None else {"peak_memory_bytes": memory})
            # JSON has no word for what is not finite.
            self._writer.write(step, {f"train/{key}": value for key, value in figures.items() if math.isfinite(value)})
            self.begin_window()
        self._show(step, values["loss"])
        self._watch(step, values)

    def validated(self, step: int, split: str, figures: Mapping[str, float], best: float) -> None:
        """Takes a validation's figures and the best top-1 so far; the time it took counts in no window."""
        self._last, self._best = figures["top1"], best
        if self._writer:
            self._writer.write(step, {f"{split}/{key}": value for key, value in figures.items()})
        self.begin_window()

    def compiling(self, image_size: int) -> None:
        """Says that a step for images of that side is compiled, and counts its FLOPs from now on."""
        self._console.live("compiling the training step ...")
        self._pace.work(self._flops(image_size))

    def begin_window(self) -> None:
        """Measures speed and wait from now on: what was done since the last step is no training."""
        self._pace.begin()

    def _show(self, step: int, loss: float) -> None:
        done = step - self._first_step
        seconds_a_step = (time.monotonic() - self._started) / done if done else 0.0
        line = training_line(
            step=step,
            total_steps=self._total_steps,
            loss=loss,
            seconds_left=seconds_a_step * (self._total_steps - step),
            last=self._last,
            best=self._best,
            **self._speed,
        )
        self._console.live(line, final=step == self._total_steps)
