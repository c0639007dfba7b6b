"""The largest batch that fits, in few tries, for a try is a compilation."""

from collections.abc import Callable
from typing import NamedTuple


class Trial(NamedTuple):
    """A batch that was tried: bytes that a chip needs and has."""

    batch_size: int
    needed: int
    available: int

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.needed <= self.available


def largest_batch(attempt: Callable[[int], Trial], *, start: int, unit: int, tries: int = 10) -> list[Trial]:
    """Doubles, or halves, until one fits and one does not, then closes in between them.

    Between two that were tried, memory grows by about as much for every image: the next is where that line meets what
    the chip has. It stops at neighbours, or when the `tries` are spent.

    Args:
        attempt: What a batch needs.
        start: First try; rounded to `unit`.
        unit: A batch is a multiple of it.
        tries: At most.

    Returns:
        The trials in order; the largest that fits is the answer, and there may be none.
    """
    trials = [attempt(max(1, start // unit) * unit)]
    while len(trials) < tries:
        fitting = max((one for one in trials if one.fits), default=None)
        failing = min((one for one in trials if not one.fits), default=None)
        if failing is None:
            following = 2 * fitting.batch_size
        elif fitting is None:
            if failing.batch_size == unit:
                break
            following = max(1, failing.batch_size // 2 // unit) * unit
        else:
            low, high = fitting.batch_size // unit, failing.batch_size // unit
            if high - low <= 1:
                break
            available = min(fitting.available, failing.available)  # a compiler keeps some for itself, and says so late
            share = (available - fitting.needed) / max(1, failing.needed - fitting.needed)
            guess = low + int(share * (high - low))
            if len(trials) > 3 and trials[-1].fits == trials[-2].fits == trials[-3].fits:  # the line misleads
                guess = (low + high) // 2
            following = min(max(guess, low + 1), high - 1) * unit
        trials.append(attempt(following))
    return trials


def best(trials: list[Trial]) -> Trial | None:
    """The largest that fits."""
    return max((one for one in trials if one.fits), default=None)
