"""Rates of learning by layer and by pattern."""

import re

import jax

from p10k_jax.models.functional import Tree
from p10k_jax.models.heads import HEAD_PARTS
from p10k_jax.training.patterns import Rules, assign, check_patterns, path_name

_AFTER_THE_BLOCKS = (*HEAD_PARTS, "fc_norm", "attn_pool", "gem_pool")


def layer_numbers(params: Tree) -> tuple[Tree, int]:
    """For every parameter the number of its layer, and the number of layers, as timm counts them.

    0 is everything before the first block; every block is one layer; a trunk's last `norm` belongs to the last block;
    pooling, `fc_norm`, neck and heads are the last layer.
    """
    names = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
    blocks = sorted({block for name in names if (block := _block(name))})
    last = len(blocks) + 1

    def number(name: str) -> int:
        if block := _block(name):
            return blocks.index(block) + 1
        if name.startswith("norm."):
            return last - 1
        return last if name.split(".")[0] in _AFTER_THE_BLOCKS else 0

    return jax.tree.unflatten(jax.tree.structure(params), [number(name) for name in names]), last + 1


def _block(name: str) -> tuple[int, ...]:
    """`blocks.3.attn...` -> (3,), `layer2.0.conv1...` and `stages.2.blocks.0...` -> (2, 0), anything else -> ()."""
    match = re.match(r"(?:blocks\.|layer|stages\.)(\d+)\.(?:(?:blocks\.)?(\d+)\.)?", name)
    return tuple(int(group) for group in match.groups() if group) if match else ()


def rate_factors(params: Tree, *, layer_decay: float, rates: Rules) -> Tree:
    """A factor on the rate for every parameter.

    Args:
        params: Arrays or shapes.
        layer_decay: In (0, 1]: the rate of every layer is that of the next one times this (Clark et al., arXiv
            2003.10555; Bao et al., arXiv 2106.08254); the last has the full one.
        rates: (pattern, factor) pairs on top, the first that matches counts; 0 freezes.

    Raises:
        ValueError: a pattern that matches nothing, a factor out of range.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"optimizer.layer_decay={layer_decay} is outside (0, 1].")
    for rule in rates:
        if not (
            isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[1], int | float) and rule[1] >= 0
        ):
            raise ValueError(f"optimizer.rates: {rule!r} is no pair of a pattern and a factor of at least 0.")
    check_patterns(rates, params, setting="optimizer.rates")
    numbers, layers = layer_numbers(params)
    factors = assign(rates, params, 1.0)
    return jax.tree.map(lambda number, factor: factor * layer_decay ** (layers - 1 - number), numbers, factors)


def is_head(params: Tree) -> Tree:
    """For every parameter whether it belongs to the neck or the heads."""
    return {part: jax.tree.map(lambda _: part in HEAD_PARTS, tree) for part, tree in params.items()}  # noqa: B023
