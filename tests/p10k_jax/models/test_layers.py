"""Norms against flax's in float32, and what flax's rounds in bfloat16; keys against NNX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from p10k_jax.models.functional import Keys
from p10k_jax.models.layers import BatchNorm, LayerNorm

X = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (6, 5, 4, 8)), jnp.float32)
STEPS = 3


def trained(norm: nnx.Module) -> dict:
    """Results and gradients of a few steps in training, then a result in evaluation and what is remembered."""

    @nnx.value_and_grad(has_aux=True)
    def loss(norm, x):
        y = norm(x, use_running_average=False)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    told = {}
    for step in range(STEPS):
        (_, y), gradient = loss(norm, X * (1 + step))
        told[f"step {step}"] = (y, nnx.to_pure_dict(gradient))
    told["later"] = norm(X, use_running_average=True)
    told["remembered"] = nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat))
    return told


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_equals_flaxs(bias):
    theirs = nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, use_bias=bias, rngs=nnx.Rngs(0))
    ours = BatchNorm(8, dtype=jnp.float32, bias=bias)
    scale = jnp.linspace(0.5, 2.0, 8)
    theirs.scale[...] = ours.scale[...] = scale
    expected = trained(theirs)
    assert jax.tree.leaves(expected["remembered"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), trained(ours), expected)


def test_batch_norm_rounds_its_result_alone():
    norm = BatchNorm(8, dtype=jnp.bfloat16)
    norm.scale[...] = jnp.full(8, 1 + 2**-12)  # bfloat16 has no such number
    expected = BatchNorm(8, dtype=jnp.float32)
    expected.scale[...] = norm.scale[...]
    x = X.astype(jnp.bfloat16)
    for train in (True, False):
        y = norm(x, use_running_average=not train)
        assert y.dtype == jnp.bfloat16
        np.testing.assert_array_equal(y, expected(x, use_running_average=not train).astype(jnp.bfloat16))
    np.testing.assert_array_equal(norm.mean[...], expected.mean[...])
    np.testing.assert_array_equal(norm.var[...], expected.var[...])


def test_ghosts_are_normalised_apart_and_their_mean_is_remembered():
    ours = BatchNorm(8, dtype=jnp.float32, ghost_batch=2)
    y = ours(X, use_running_average=False)
    remembered = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
        theirs = nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(y[rows], theirs(X[rows], use_running_average=False), rtol=2e-5, atol=2e-5)
        remembered.append((theirs.mean[...], theirs.var[...]))
    for seen, expected in zip((ours.mean, ours.var), np.mean(remembered, axis=0), strict=True):
        np.testing.assert_allclose(seen[...], expected, rtol=2e-5)
    with pytest.raises(ValueError, match="ghost_batch=2 does not divide the 5 images"):
        ours(X[:5], use_running_average=False)
    ours(X[:5], use_running_average=True)


def test_batch_norm_of_equal_values():
    y = BatchNorm(2, dtype=jnp.float32)(jnp.full((4, 2), 1e3), use_running_average=False)
    np.testing.assert_array_equal(y, jnp.zeros((4, 2)))


def test_a_norm_whose_scale_starts_at_zero():
    y = BatchNorm(8, dtype=jnp.float32, zero=True)(X, use_running_average=False)
    np.testing.assert_array_equal(y, jnp.zeros_like(X))


def test_layer_norm_rounds_its_result_alone():
    norm = LayerNorm(8, epsilon=1e-6, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    norm.scale[...] = jnp.full(8, 1 + 2**-12)
    theirs = nnx.LayerNorm(8, epsilon=1e-6, dtype=jnp.float32, rngs=nnx.Rngs(0))
    theirs.scale[...] = norm.scale[...]
    x = X.astype(jnp.bfloat16)
    np.testing.assert_array_equal(norm(x), theirs(x).astype(jnp.bfloat16))


def test_keys_are_those_of_nnx():
    ours, theirs = Keys(jax.random.key(7)), nnx.Rngs(params=jax.random.key(7))
    for _ in range(3):
        np.testing.assert_array_equal(jax.random.key_data(ours.params()), jax.random.key_data(theirs.params()))
