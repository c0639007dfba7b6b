"""A tracker in a thread of its own, so that it neither stops a run nor slows it."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from p10k_jax.reporting.trackers import Tracker

Say = Callable[[str], None]


class Aside:
    """The tracker that `make` makes; its first error switches it off, which is said once.

    Args:
        name: For messages.
        make: Makes the tracker, in its thread; is given a `say` of its own.
        say: Shows a line to a person; called only within the methods, by whoever calls those.
        waiting: Calls that may wait for the tracker; one more, and it is switched off.
        patience: Seconds that `close` waits for it.
    """

    def __init__(
        self, name: str, make: Callable[[Say], "Tracker"], say: Say, *, waiting: int = 10_000, patience: float = 60.0
    ):
        self._name, self._say, self._patience = name, say, patience
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._calls: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(waiting)
        self._off = False
        self._thread = threading.Thread(target=self._work, args=(make,), name=f"tracker {name}", daemon=True)
        self._thread.start()

    def settings(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Hands on."""
        self._hand_on(lambda tracker: tracker.settings(config, facts))

    def figures(self, step: int, figures: Mapping[str, float | int]) -> None:
        """Hands on."""
        self._hand_on(lambda tracker: tracker.figures(step, figures))

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Hands on."""
        self._hand_on(lambda tracker: tracker.picture(step, name, image))

    def close(self) -> None:
        """Waits for the tracker to finish, but not for ever."""
        try:
            self._calls.put_nowait(None)
            self._thread.join(self._patience)
        except queue.Full:
            pass
        self._tell()
        if self._thread.is_alive() and not self._off:
            self._switched_off(f"has not finished within {self._patience:g} s")

    def _hand_on(self, call: Callable[["Tracker"], None]) -> None:
        self._tell()
        if self._off:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._switched_off(f"is {self._calls.maxsize:,} calls behind")

    def _switched_off(self, why: str) -> None:
        self._off = True
        self._say(f"tracker {self._name} {why} and is switched off; metrics.jsonl goes on")

    def _tell(self) -> None:
        while not self._lines.empty():
            self._say(f"tracker {self._name}: {self._lines.get()}")

    def _work(self, make: Callable[[Say], "Tracker"]) -> None:
        try:
            tracker = make(self._lines.put)
            while (call := self._calls.get()) is not None:
                if self._off:
                    return
                call(tracker)
            tracker.close()
        except Exception as error:
            self._off = True
            told = " ".join(str(error).split())
            self._lines.put(f"switched off, metrics.jsonl goes on ({type(error).__name__}: {told})")
