import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from p10k_jax.models.attention import ATTENTIONS, attend

TOKENS = 24


def drawn(dtype=jnp.float32, tokens=TOKENS):
    draw = np.random.RandomState(0).standard_normal
    return [jnp.asarray(draw((2, tokens, 3, 8)), dtype) for _ in range(4)]


@pytest.mark.parametrize("how", ["keep", "recompute"])
def test_it_is_softmax_of_scaled_products_with_the_values(how):
    queries, keys, values, _ = drawn()
    mixed = attend(queries, keys, values, how=how)
    for b in range(2):
        for h in range(3):
            q, k, v = (np.asarray(x[b, :, h], np.float64) for x in (queries, keys, values))
            np.testing.assert_allclose(mixed[b, :, h], softmax(q @ k.T / np.sqrt(8), axis=1) @ v, atol=2e-6)


@pytest.mark.parametrize("how", ["keep", "recompute"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 5e-6), (jnp.bfloat16, 6e-2)])
def test_its_gradients_are_those_of_jaxs_attention_in_float32(how, dtype, tolerance):
    *inputs, cotangent = drawn()
    expected = jax.vjp(jax.nn.dot_product_attention, *inputs)[1](cotangent)
    rounded = [x.astype(dtype) for x in inputs]
    gradients = jax.vjp(lambda *x: attend(*x, how=how), *rounded)[1](cotangent.astype(dtype))
    for gradient, value in zip(gradients, expected, strict=True):
        assert gradient.dtype == dtype
        np.testing.assert_allclose(np.asarray(gradient, np.float32), value, atol=tolerance)


def squares_kept(how, dtype):
    """Bytes of what is kept for the gradient and grows with the square of the tokens."""
    inputs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in drawn(dtype)[:3]]
    kept = jax.eval_shape(lambda *x: jax.vjp(lambda *y: attend(*y, how=how), *x)[1], *inputs)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept) if x.shape[-2:] == (TOKENS, TOKENS))


def test_what_is_kept_is_the_weights_once_or_nothing():
    weights = 2 * 3 * TOKENS**2
    assert squares_kept("keep", jnp.bfloat16) == 2 * weights
    assert squares_kept("keep", jnp.float32) == 4 * weights
    assert squares_kept("recompute", jnp.bfloat16) == 0


def test_what_cannot_be_says_so():
    queries, keys, values, _ = drawn()
    with pytest.raises(ValueError, match="attention='flash' is unknown; known: 'keep', 'recompute', 'cudnn'"):
        attend(queries, keys, values, how="flash")
    with pytest.raises(ValueError, match=r"NVIDIA GPU and 16 bits, not float32 on cpu; set model\.attention="):
        attend(queries, keys, values, how="cudnn")
    assert ATTENTIONS[0] == "keep"
