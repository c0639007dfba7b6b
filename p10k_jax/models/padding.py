"""A classifier wider than its classes, so that a mesh axis divides it.

The columns beyond the classes are zero at first, their logits are minus infinity, and they learn nothing: a model says
the same with them and without. They are there for the shardings of a train state alone.
"""

import math

import jax
import numpy as np

from p10k_jax.models.functional import Tree

# Every axis of a power of two divides it up to this, so that a run goes on on any such mesh; and it is what a TPU pads
# the last axis of a shard to anyway.
_MULTIPLE = 128


def padded_classes(num_classes: int, parts: int) -> int:
    """The width of a classifier that is cut into `parts`: `num_classes` as it is for one, else rounded up to a multiple
    of the parts and of 128."""
    multiple = 1 if parts == 1 else math.lcm(parts, _MULTIPLE)
    return -(-num_classes // multiple) * multiple


def cut(tree: Tree, like: Tree) -> Tree:
    """The leaves of a padded model's tree in the shapes of `like`, the same model's without padding."""
    return jax.tree.map(lambda leaf, shape: leaf[tuple(map(slice, shape.shape))], tree, like)


def pad(tree: Tree, like: Tree) -> Tree:
    """The leaves of an unpadded model's tree in the shapes of `like`, filled up with zeros on the host."""

    def padded(leaf, shape):
        if leaf.shape == shape.shape:
            return leaf
        return np.pad(leaf, [(0, wide - narrow) for wide, narrow in zip(shape.shape, leaf.shape, strict=True)])

    return jax.tree.map(padded, tree, like)
