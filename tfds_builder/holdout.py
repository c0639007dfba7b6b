"""Which pictures of a class are held out: by the order of a hash, the same on every platform and library version."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np


def draw_holdout(
    names: Sequence[str], labels: np.ndarray, take: Callable[[int], int], *, seed: int, purpose: str
) -> np.ndarray:
    """Draws pictures class by class.

    The pictures of a class are put in the order of sha256(f'{purpose}/{seed}/{name}') in UTF-8, and the first ones are
    taken. So the choice depends on the class's own pictures and the seed alone: not on the order of rows, on other
    classes, or on any random number generator.

    Args:
      names: N unique names.
      labels: int[N], classes.
      take: number of pictures in a class -> how many of them to take.
      seed: any integer.
      purpose: keeps draws for different ends apart ('validation', 'test').

    Returns:
      bool[N], True where the picture is taken.
    """
    taken = np.zeros(len(names), bool)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order][:1] - 1))
    for rows in np.split(order, starts[1:]):
        count = take(len(rows))
        if count:
            ranked = sorted(rows, key=lambda row: hashlib.sha256(f"{purpose}/{seed}/{names[row]}".encode()).digest())
            taken[ranked[:count]] = True
    return taken
