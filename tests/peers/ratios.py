"""What rounds of measurements say: rates, and ratios of pairs that were measured one after the other."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """One measurement: images, seconds by the clock, and seconds of processor time of all processes together."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def rate_per_core(self) -> float:
        """Images a second of processor time."""
        return self.images / self.cpu_seconds


class Spread(NamedTuple):
    """Median, least and most over the rounds."""

    median: float
    least: float
    most: float

    def text(self, form: str) -> str:
        """`2.84 (2.70-2.91)` for `.2f`."""
        return f"{self.median:{form}} ({self.least:{form}}-{self.most:{form}})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of one value a round."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(mine: Sequence[float], others: Sequence[float]) -> Spread:
    """The spread of mine over others, round by round.

    Raises:
        ValueError: not as many rounds of both.
    """
    return spread([one / other for one, other in zip(mine, others, strict=True)])
