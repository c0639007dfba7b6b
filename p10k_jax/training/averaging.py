"""Model soups: weights of several runs averaged into one model (Wortsman et al., arXiv 2203.05482)."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from p10k_jax.models.functional import Tree


def uniform_soup(trees: Sequence[Tree]) -> Tree:
    """The mean of every leaf over the trees, in their dtype; BatchNorm's running statistics are averaged like weights.

    Raises:
        ValueError: no tree, or trees of other structures or shapes.
    """
    if not trees:
        raise ValueError("A soup needs at least one run.")
    shapes = [jax.tree.map(np.shape, tree) for tree in trees]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("A soup needs runs of one architecture: parameters of the same names and shapes.")

    def mean(*leaves: np.ndarray) -> np.ndarray:
        total = np.zeros(leaves[0].shape, np.float64)
        for leaf in leaves:
            total += leaf
        return (total / len(leaves)).astype(leaves[0].dtype)

    return jax.tree.map(mean, *trees)


def greedy_soup(
    load: Callable[[int], Tree], alone: Sequence[float], judge: Callable[[Tree], float]
) -> tuple[list[int], float]:
    """Which of the runs make the soup (algorithm 1 of the paper): from the best on, each that does not make it worse.

    Args:
        load: Number of a run to its weights.
        alone: What `judge` says of each run alone; larger is better.
        judge: Of weights; on data that no run was trained on and that no result is reported on.

    Returns:
        Numbers of the runs in the order in which they came in, and what `judge` says of their uniform soup.
    """
    ranked = sorted(range(len(alone)), key=lambda run: -alone[run])
    kept, best = ranked[:1], alone[ranked[0]]
    for run in ranked[1:]:
        figure = judge(uniform_soup([load(number) for number in (*kept, run)]))
        if figure >= best:
            kept, best = [*kept, run], figure
    return kept, best
