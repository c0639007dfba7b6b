"""Blocks whose inner values are computed again for the gradient instead of being kept."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from p10k_jax.models.attention import WEIGHTS
from p10k_jax.models.layers import check_choice

_ALL_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.save_only_these_names(WEIGHTS)
)


def _elementwise(primitive, *inputs, **settings) -> bool:
    return primitive is jax.lax.conv_general_dilated_p or _ALL_PRODUCTS(primitive, *inputs, **settings)


def _products(primitive, *inputs, **settings) -> bool:
    is_convolution = primitive is jax.lax.conv_general_dilated_p
    return is_convolution or jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *inputs, **settings)


_POLICIES: dict[str, Callable[..., Any]] = {
    # Norms and activations are made anew, which costs nothing beside writing and reading them.
    "elementwise": _elementwise,
    # What is multiplied with weights is kept, and all between the products (norms, activations, attention) made anew.
    "products": _products,
    # A block's input alone is kept: a third more to compute, and the least memory.
    "blocks": jax.checkpoint_policies.nothing_saveable,
}
REMATS = ("none", *_POLICIES)


def run_block(block: nnx.Module, *inputs, remat: str, **settings):
    """`block(*inputs, **settings)`; its BatchNorms remember what they see.

    Args:
        block: One block of a trunk.
        inputs: Arrays.
        remat: Of `REMATS` (Chen et al., arXiv 1604.06174): what is not kept. It changes memory and speed alone.
        settings: What is no array.

    Raises:
        ValueError: an unknown `remat`.
    """
    check_choice("remat", remat, REMATS)
    if remat == "none":
        return block(*inputs, **settings)
    graph, params, stats = nnx.split(block, nnx.Param, nnx.BatchStat)

    def pure(params, stats, *inputs):
        block = nnx.merge(graph, params, stats)
        outputs = block(*inputs, **settings)
        return outputs, nnx.state(block, nnx.BatchStat)

    outputs, stats = jax.checkpoint(pure, policy=_POLICIES[remat])(params, stats, *inputs)
    nnx.update(block, stats)
    return outputs
