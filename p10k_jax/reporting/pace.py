"""How fast a loop over batches goes, and how much of its time it waits for them."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Pace:
    """Images a second, model FLOP utilisation and data wait over a window of steps.

    Args:
        batch_size: Global.
        peak_flops: Of all devices together, operations a second; None where it is not known.
    """

    def __init__(self, batch_size: int, *, peak_flops: float | None = None):
        self._batch_size, self._peak_flops = batch_size, peak_flops
        self._flops_per_image: float | None = None
        self.begin()

    def work(self, flops_per_image: float | None) -> None:
        """What an image costs from now on: the model's operations, forward and backward, without what
        rematerialisation computes again (Chowdhery et al., arXiv 2204.02311, appendix B)."""
        self._flops_per_image = flops_per_image

    def begin(self) -> None:
        """Measures from now on."""
        self._began, self._steps, self._waited = time.monotonic(), 0, 0.0

    def timed(self, batches: Iterable[T], *, idle: Callable[[], bool]) -> Iterator[T]:
        """The same batches, measuring how long the loop waits for each while the device has nothing left to do.

        A wait that ends while the device still computes (`idle()` is False) costs nothing and counts nothing. One
        during which the device became idle counts whole, so the share is an upper bound.
        """
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            if idle():
                self._waited += time.monotonic() - began
            yield batch

    def step_done(self) -> None:
        """Counts a step, when its result is there."""
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """`images_per_second`, `data_wait` (a fraction) and, where peak and work are known, `mfu` (a fraction); empty
        before the first step of the window."""
        if not self._steps:
            return {}
        elapsed = max(time.monotonic() - self._began, 1e-9)
        speed = self._steps * self._batch_size / elapsed
        told = {"images_per_second": speed, "data_wait": min(1.0, self._waited / elapsed)}
        if self._peak_flops and self._flops_per_image:
            told["mfu"] = speed * self._flops_per_image / self._peak_flops
        return told
