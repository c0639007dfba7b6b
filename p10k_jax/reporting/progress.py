"""What a person sees while a run goes on: one live line, and lines that stay."""

import os
import sys
import time
from typing import TextIO

import jax

from tfds_builder.terminal import printable


def duration_text(seconds: float) -> str:
    """Seconds as `42s`, `3m07s` or `5h12m`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Console:
    """Prints on process 0 and is silent elsewhere.

    On a terminal the live line is rewritten in place; into a file or a pipe it is written every `quiet_seconds`. What a
    terminal would obey, in the name of a file say, is written as an escape. `alone` says that this is the only process,
    where asking JAX would take the accelerator from a child.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet_seconds: float = 15.0, alone: bool = False):
        self._stream = stream or sys.stderr
        self._speaks = alone or jax.process_index() == 0
        self._live = self._stream.isatty()
        self._quiet_seconds = quiet_seconds
        self._last_live = 0.0
        self._width = 0

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._speaks:
            self._stream.write(self._erase() + printable(text) + "\n")
            self._stream.flush()

    def live(self, text: str, *, final: bool = False) -> None:
        """The live line; `final` leaves it standing."""
        now = time.monotonic()
        if not self._speaks or (not self._live and not final and now - self._last_live < self._quiet_seconds):
            return
        self._last_live, text = now, printable(text)
        if self._live and not final:
            erase, text = self._erase(), text[: self._columns()]
            self._stream.write(erase + text)
            self._width = len(text)
        else:
            self._stream.write(self._erase() + text + "\n")
        self._stream.flush()

    def _columns(self) -> int | None:
        """How much fits on one line: what wraps cannot be rewritten, and would scroll by with every step."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):  # no terminal after all
            columns = 0
        return columns - 1 if columns > 1 else None  # the last column makes some terminals wrap

    def _erase(self) -> str:
        width, self._width = self._width, 0
        return "\r" + " " * width + "\r" if width else ""


def training_line(
    *,
    step: int,
    total_steps: int,
    loss: float,
    seconds_left: float,
    last: float | None,
    best: float | None,
    images_per_second: float = 0.0,
    data_wait: float = 0.0,
    mfu: float | None = None,
) -> str:
    """The live line of training; `data_wait`, `mfu` and accuracies are fractions."""
    width = len(str(total_steps))
    line = f"step {step:{width}d}/{total_steps}  loss {loss:.3f}  {images_per_second:,.0f} img/s"
    line += f"  MFU {mfu:.0%}" if mfu is not None else ""
    line += f"  data wait {data_wait:.0%}  {duration_text(seconds_left)} left"
    if last is not None and best is not None:
        line += f"  validation top-1 {last:.4f} (best {best:.4f})"
    return line
