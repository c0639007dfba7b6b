"""Scaled dot-product attention, and what of it is kept for the gradient."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from p10k_jax.models.layers import check_choice

# What policies of rematerialisation know the attention weights by.
WEIGHTS = "attention_weights"

# Name -> what it does:
#   keep       XLA; the attention weights are kept for the gradient, in the precision that they are used in.
#   recompute  XLA; the gradient computes them again: nothing that grows with the square of the tokens is kept.
#   cudnn      NVIDIA's fused kernel, which never writes them: 16-bit queries, on NVIDIA GPUs alone.
ATTENTIONS = ("keep", "recompute", "cudnn")


def attend(
    queries: Float[Array, "b n h d"], keys: Float[Array, "b m h d"], values: Float[Array, "b m h d"], *, how: str
) -> Float[Array, "b n h d"]:
    """Attention (Vaswani et al., arXiv 1706.03762, eq. 1) of every head.

    Scores and softmax are float32 in any dtype; weights and values are multiplied in that of the inputs.

    Args:
        queries, keys, values: Of one dtype.
        how: Of `ATTENTIONS`; all give the same up to rounding.

    Raises:
        ValueError: an unknown `how`, or `cudnn` where it cannot be.
    """
    check_choice("attention", how, ATTENTIONS)
    if how == "cudnn":
        return _fused(queries, keys, values)
    return (jax.checkpoint(_attend) if how == "recompute" else _attend)(queries, keys, values)


def _fused(queries, keys, values):
    if queries.dtype not in (jnp.bfloat16, jnp.float16) or jax.default_backend() != "gpu":
        raise ValueError(
            f"attention='cudnn' needs an NVIDIA GPU and 16 bits, not {queries.dtype} on {jax.default_backend()}; "
            "set model.attention='keep' or 'recompute'."
        )
    return jax.nn.dot_product_attention(queries, keys, values, implementation="cudnn")


# Automatic differentiation would keep the softmax's float32 beside the weights that the values are multiplied with.
@jax.custom_vjp
def _attend(queries, keys, values):
    return _forward(queries, keys, values)[0]


def _forward(queries, keys, values):
    queries = queries / math.sqrt(queries.shape[-1])
    scores = jnp.einsum("bnhd,bmhd->bhnm", queries, keys).astype(jnp.float32)
    weights = checkpoint_name(jax.nn.softmax(scores).astype(values.dtype), WEIGHTS)
    mixed = jnp.einsum("bhnm,bmhd->bnhd", weights, values)
    return mixed, (queries, keys, values, weights)


def _backward(kept, gradient):
    queries, keys, values, weights = kept
    of_values = jnp.einsum("bhnm,bnhd->bmhd", weights, gradient)
    of_weights = jnp.einsum("bnhd,bmhd->bhnm", gradient, values).astype(jnp.float32)
    wide = weights.astype(jnp.float32)
    of_scores = wide * (of_weights - (wide * of_weights).sum(axis=-1, keepdims=True))
    of_scores = of_scores.astype(values.dtype)
    of_queries = jnp.einsum("bhnm,bmhd->bnhd", of_scores, keys) / math.sqrt(queries.shape[-1])
    of_keys = jnp.einsum("bhnm,bnhd->bmhd", of_scores, queries)
    return of_queries, of_keys, of_values


_attend.defvjp(_forward, _backward)


def project_to_heads(
    layer: nnx.Linear, tokens: Float[Array, "b n c"], *, heads: int, parts: int
) -> list[Float[Array, "b n h d"]]:
    """What a fused projection gives, in its `parts` (queries, keys, values), each cut into heads.

    Every part is a product by itself: cutting up the fused one afterwards would copy it from one layout to another.
    """
    dtype = layer.dtype or tokens.dtype
    kernel = layer.kernel[...].astype(dtype).reshape(tokens.shape[-1], parts, heads, -1)
    projected = [jnp.einsum("bnc,chd->bnhd", tokens.astype(dtype), kernel[:, part]) for part in range(parts)]
    if layer.bias is None:
        return projected
    bias = layer.bias[...].astype(dtype).reshape(parts, heads, -1)
    return [part + bias[number] for number, part in enumerate(projected)]


def project_from_heads(layer: nnx.Linear, mixed: Float[Array, "b n h d"]) -> Float[Array, "b n c"]:
    """`layer` of the heads side by side, in one product."""
    dtype = layer.dtype or mixed.dtype
    kernel = layer.kernel[...].astype(dtype).reshape(*mixed.shape[2:], -1)
    projected = jnp.einsum("bnhd,hdc->bnc", mixed.astype(dtype), kernel)
    return projected if layer.bias is None else projected + layer.bias[...].astype(dtype)
