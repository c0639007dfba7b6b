"""Saving that does not end a run: a checkpoint that cannot be written is said to be lost, and training goes on."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from p10k_jax.training.checkpoint import Best, Checkpoints
from p10k_jax.training.state import State


class Saves:
    """The checkpoints that a run writes.

    `saved` is the step of the last that is complete, `best` the best evaluation so far, also where its checkpoint is
    lost, `lost` the steps whose checkpoints are.

    Args:
        open_checkpoints: Opens the folder; called again after a failure.
        time_limit: Seconds after which a save that hangs is given up, and with it all others until it has ended.
        say: Is told what is lost.
    """

    def __init__(self, open_checkpoints: Callable[[], Checkpoints], *, time_limit: float, say: Callable[[str], None]):
        self._open, self._time_limit, self._say = open_checkpoints, time_limit, say
        self._checkpoints: Checkpoints | None = open_checkpoints()
        self._written: int | None = None  # the step whose checkpoint is being written in the background
        self._hanging: threading.Thread | None = None
        self.best = self._checkpoints.best()
        self.saved = max(self._checkpoints.steps(), default=0)
        self.lost: list[int] = []

    @property
    def newest(self) -> int:
        """The step of the last that was begun and not given up."""
        return self._written or self.saved

    def evaluated(self, step: int) -> bool:
        """Whether the checkpoint of that step, which lies there at the start, has metrics."""
        return self._checkpoints.evaluated(step)

    def seen(self, top1: float, step: int) -> Best:
        """Takes an evaluation; gives the best so far."""
        self.best = max(filter(None, [self.best, Best(top1, step)]))
        return self.best

    def save(self, state: State, *, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """As `Checkpoints.save`, but for what the storage does.

        Raises:
            FloatingPointError: the state is not finite.
        """
        if metrics is not None:
            self.seen(metrics["top1"], step)
        self._settle()
        if self._hanging:
            self._lose(step, "the storage still hangs")
            return

        def start() -> None:
            if self._checkpoints is None:
                self._checkpoints = self._open()
            self._checkpoints.save(state, step=step, metrics=metrics)

        if self._bounded(start, step):
            self._written = step

    def finish(self) -> None:
        """Waits for what is being written, at most as long as the limit."""
        self._settle()
        if self._checkpoints is not None and not self._hanging:
            self._checkpoints.close()

    def _settle(self) -> None:
        """Waits for the save before; what went wrong with it in the background is told here."""
        if self._hanging and not self._hanging.is_alive():
            self._hanging = None  # what it began may still be written in the background
            with contextlib.suppress(Exception):  # it was given up before
                self._checkpoints.wait()
        step, self._written = self._written, None
        if step is not None and self._bounded(self._checkpoints.wait, step):
            self.saved = step

    def _bounded(self, action: Callable[[], Any], step: int) -> bool:
        """Runs it within the limit; whether that went well."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                action()
            except BaseException as error:  # told below, in the thread that waits
                raised.append(error)

        thread = threading.Thread(target=run, name=f"checkpoint {step}", daemon=True)
        thread.start()
        thread.join(self._time_limit)
        if thread.is_alive():
            self._hanging = thread
            self._lose(step, f"not written after {self._time_limit:g} s (checkpoint.time_limit)")
            return False
        if not raised:
            return True
        if isinstance(raised[0], FloatingPointError):
            raise raised[0]
        self._checkpoints = None
        told = (str(raised[0]).strip() or type(raised[0]).__name__).splitlines()[0]
        self._lose(step, told[:300])
        return False

    def _lose(self, step: int, reason: str) -> None:
        self.lost.append(step)
        self._say(f"CHECKPOINT LOST: that of step {step:,}: {reason}. Training goes on; the next one is tried in time.")
