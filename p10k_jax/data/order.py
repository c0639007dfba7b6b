"""Which example stands at which place of the training stream: pure functions of the seed.

The stream is one permutation of the split after another. Batch `t` of size `b` holds places `t*b .. t*b + b - 1`,
whatever the number of hosts, devices and workers; a batch may straddle two epochs, so that none is ever short.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

# Places of the stream int64[n] -> (example indices int64[n], mask bool[n]: whether there is an example at all).
Order = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@functools.lru_cache(maxsize=4)  # a batch touches two epochs at most; at 141,931 examples one takes 1.1 MB
def epoch_permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The order of epoch `epoch`: int64[num_examples], read-only.

    `RandomState` is frozen by NumPy's compatibility policy: the order is the same with any version.
    """
    bits = np.random.MT19937(np.random.SeedSequence([seed, epoch]))
    permutation = np.random.RandomState(bits).permutation(num_examples)
    permutation.setflags(write=False)
    return permutation


def training_indices(seed: int, places: np.ndarray, num_examples: int) -> np.ndarray:
    """Example indices at these places of the stream: int64[n] >= 0 -> int64[n] in 0..num_examples-1."""
    epochs, offsets = np.divmod(np.asarray(places, np.int64), num_examples)
    indices = np.empty_like(offsets)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_permutation(seed, int(epoch), num_examples)[offsets[here]]
    return indices


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """An endless `Order` by `training_indices`."""

    seed: int
    num_examples: int

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return training_indices(self.seed, places, self.num_examples), np.ones(len(places), bool)


@dataclasses.dataclass(frozen=True)
class EvaluationOrder:
    """The `Order` of every example once, as stored; places behind the end repeat the last one, with mask False."""

    num_examples: int

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = np.asarray(places, np.int64)
        return np.minimum(places, self.num_examples - 1), places < self.num_examples
