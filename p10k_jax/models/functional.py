"""An NNX module as two pure functions over plain nested dicts: the only place that knows NNX's state objects.

The trainer, the checkpoints and the sharding rules see dicts with string keys, whose paths joined by dots are the
module's attribute paths. `nnx.merge` inside `jax.jit` costs nothing at run time: it happens while tracing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from p10k_jax.models.heads import Outputs

Tree = dict[str, Any]


class Model(NamedTuple):
    """A classifier as pure functions.

    Attributes:
        init: `key -> (params, batch_stats)`, float32 nested dicts. Works under `jax.eval_shape` and `jax.jit`.
        apply: `(params, batch_stats, images float[b,h,w,3], train=bool, key=None) -> (Outputs, batch_stats)`. Images
            are already normalised. Without `train` the statistics come back unchanged and the key is unused; with it,
            `key` draws what a model leaves to chance.
        classify: `(params, embedding float32[b,d]) -> logits float32[b,c]`: the classifier alone, on the embeddings
            that `apply` gives. It needs no statistics, for they are already through the neck.
        prefix_tokens: How many of a ViT's positions belong to class and register tokens; 0 without positions.
    """

    init: Callable[[Array], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Outputs, Tree]]
    classify: Callable[[Tree, Array], Array]
    prefix_tokens: int = 0


def to_tree(state: nnx.State) -> Tree:
    """NNX state to a nested dict of arrays with string keys (NNX numbers list entries with ints)."""

    def named(node):
        return {str(k): named(v) for k, v in node.items()} if isinstance(node, dict) else node

    return named(nnx.to_pure_dict(state))


def _replace(state: nnx.State, tree: Tree) -> nnx.State:
    """A copy of `state` with the values of `tree`."""

    def numbered(node):
        if not isinstance(node, dict):
            return jnp.asarray(node)
        return {int(k) if k.isdigit() else k: numbered(v) for k, v in node.items()}

    state = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(state, numbered(tree))
    return state


class Keys:
    """The keys of `nnx.Rngs(params=key)`, counted in Python.

    NNX counts in an array. While tracing, each count asks a tracer for its sharding, for which JAX composes the text
    of an error that is then dropped: four fifths of the time that a ResNet-152 takes to trace.
    """

    def __init__(self, key: Array):
        self._key, self._count = key, 0

    def params(self) -> Array:
        """The next key."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count - 1)


def functional(make: Callable[[Keys], nnx.Module]) -> Model:
    """Turns a module's constructor into pure functions; no array is made here."""
    abstract = nnx.eval_shape(lambda: make(Keys(jax.random.key(0))))
    graph, abstract_params, abstract_stats = nnx.split(abstract, nnx.Param, nnx.BatchStat)

    def init(key: Array) -> tuple[Tree, Tree]:
        _, params, batch_stats = nnx.split(make(Keys(key)), nnx.Param, nnx.BatchStat)
        return to_tree(params), to_tree(batch_stats)

    def apply(
        params: Tree, batch_stats: Tree, images: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Tree]:
        module = nnx.merge(graph, _replace(abstract_params, params), _replace(abstract_stats, batch_stats))
        outputs = module(images, train=train, key=key)
        return outputs, to_tree(nnx.state(module, nnx.BatchStat)) if train else batch_stats

    def classify(params: Tree, embedding: Array) -> Array:
        return nnx.merge(graph, _replace(abstract_params, params), abstract_stats).classify(embedding)

    return Model(init, apply, classify, getattr(abstract, "prefix_positions", 0))
