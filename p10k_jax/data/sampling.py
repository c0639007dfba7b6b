"""Which examples a training stream holds where classes are not to come as often as they are in the data.

As in `p10k_jax.data.order`, the example at a place is a pure function of the seed and the place.
"""

import dataclasses
import functools
import threading

import numpy as np

from p10k_jax.data.order import Order

# Sets this stream apart from `epoch_permutation`'s of the same seed.
_OF_SAMPLING = 0x73616D


def class_weights(labels: np.ndarray, *, exponent: float) -> np.ndarray:
    """Weights by which a class of n examples comes in proportion to n ** exponent.

    Args:
        labels: int[N].
        exponent: 0..1: q of Kang et al., arXiv 1910.09217, eq. 1. 1 is as they come, 0.5 the square root, 0 each class
            alike.

    Returns:
        float64[N], sum 1: the examples of a class have equal weights.

    Raises:
        ValueError: an exponent outside 0..1.
    """
    if not 0 <= exponent <= 1:
        raise ValueError(f"sampling.exponent={exponent} is outside 0..1 (0: each class alike, 1: as they come).")
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = counts.astype(np.float64) ** exponent
    return (shares / shares.sum() / counts)[place]


def group_weights(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights by which each group comes alike, and within a group each of its classes.

    Args:
        labels, groups: int[N], 0 or more. A class that lies in several groups is a class in each.

    Returns:
        float64[N], sum 1.
    """
    pairs, place, counts = np.unique(_pairs(labels, groups), return_inverse=True, return_counts=True)
    _, group, classes = np.unique(pairs // (labels.max() + 1), return_inverse=True, return_counts=True)
    return (1.0 / len(classes) / classes[group] / counts)[place]


def _pairs(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """A number for each group and class, those of a group next to each other: int64[N]."""
    return groups.astype(np.int64) * (int(labels.max()) + 1) + labels


_WEIGHTS = {
    "class": lambda labels, groups: class_weights(labels, exponent=0.0),
    "sqrt": lambda labels, groups: class_weights(labels, exponent=0.5),
    "group": group_weights,
}


def sampling_weights(name: str, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The weights that a name stands for.

    Args:
        name: `class` (each class alike), `sqrt` (by the square root of its size) or `group` (each group alike, and
            within a group each class).
        labels, groups: int[N].

    Returns:
        float64[N], sum 1.

    Raises:
        ValueError: an unknown name; the known ones are listed.
    """
    if name not in _WEIGHTS:
        raise ValueError(f"sampling.name={name!r} is unknown; known: {', '.join(_WEIGHTS)}.")
    return _WEIGHTS[name](labels, groups)


def balanced_order(name: str, *, seed: int, labels: np.ndarray, groups: np.ndarray) -> "WeightedOrder":
    """The `WeightedOrder` with the weights that a name stands for (`sampling_weights`), a stratum a class and group."""
    return WeightedOrder(seed, sampling_weights(name, labels, groups), _pairs(labels, groups))


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedOrder:
    """An endless `Order` in which examples come as often as they weigh.

    An epoch has as many places as there are examples, N. They are drawn by systematic sampling (Madow 1949) along
    the strata and shuffled: example i comes floor or ceil of N * weights[i] times, N * weights[i] on average, and a
    stratum floor or ceil of its sum. Which examples of a stratum come is drawn anew each epoch.

    Attributes:
        seed: 0 or more.
        weights: float64[N], not negative; only their ratios count.
        strata: int[N]; equal numbers are a stratum, for example a class. Neighbouring numbers lie together: any run of
            strata also comes floor or ceil of its sum.
    """

    seed: int
    weights: np.ndarray
    strata: np.ndarray

    def __post_init__(self):
        if self.weights.shape != self.strata.shape or self.weights.ndim != 1 or len(self.weights) == 0:
            raise ValueError(
                f"weights of shape {self.weights.shape} and strata of shape {self.strata.shape} must have one value an "
                "example each."
            )
        if not (np.isfinite(self.weights).all() and self.weights.min() >= 0 and self.weights.max() > 0):
            raise ValueError("Sampling weights must be finite, not negative, and not all 0.")

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epochs, offsets = np.divmod(np.asarray(places, np.int64), len(self.weights))
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            with _LOCK:  # of the threads that come to a new epoch at once, one makes it
                indices[here] = _epoch(self, int(epoch))[offsets[here]]
        return indices, np.ones(len(indices), bool)


_LOCK = threading.Lock()


@functools.lru_cache(maxsize=4)  # as `epoch_permutation`
def _epoch(order: WeightedOrder, epoch: int) -> np.ndarray:
    """The examples of an epoch: int64[N], read-only."""
    number = len(order.weights)
    # `RandomState` is frozen, and the rest is done in integers: the same with any version of NumPy.
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([order.seed, epoch, _OF_SAMPLING])))
    shuffled = random.permutation(number)
    along = shuffled[np.argsort(order.strata[shuffled], kind="stable")]
    expected, unit = _expected_counts(order.weights)
    reached = np.cumsum(expected[along])
    # Place k is taken by the example within whose reach k + offset lies.
    offset = int(random.random_sample() * unit)
    counts = np.diff((reached - offset + unit - 1) // unit, prepend=0)
    drawn = np.repeat(along, counts)[random.permutation(number)]
    drawn.setflags(write=False)
    return drawn


def _expected_counts(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """How often each example is to come in an epoch, in whole parts of 1 / unit: int64[N], sum N * unit; and unit."""
    number = len(weights)
    unit = 1 << min(40, 61 - number.bit_length())
    expected = np.rint(weights / np.cumsum(weights)[-1] * (number * unit)).astype(np.int64)
    expected[np.argmax(expected)] += number * unit - expected.sum()  # about 1e-10 of a count, to the heaviest
    return expected, unit


@dataclasses.dataclass(frozen=True)
class DeferredOrder:
    """An `Order` that becomes another at a place: deferred re-sampling (DRS; Cao et al., arXiv 1906.07413).

    Attributes:
        before: Of the places before `start`.
        after: Of the rest; its own place 0 stands at `start`.
        start: Number of the first place of `after`, for example a step number times the batch size.
    """

    before: Order
    after: Order
    start: int

    def __post_init__(self):
        if self.start < 0:
            raise ValueError(f"sampling.start={self.start} must be a place of the stream, 0 or more.")

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = np.asarray(places, np.int64)
        indices, mask = np.empty_like(places), np.empty(places.shape, bool)
        for order, first, here in (
            (self.before, 0, places < self.start),
            (self.after, self.start, places >= self.start),
        ):
            if here.any():
                indices[here], mask[here] = order(places[here] - first)
        return indices, mask
