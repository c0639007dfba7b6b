import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy.special import erfc, ndtr

from p10k_jax.models.gelu import gelu


@pytest.fixture(scope="module")
def every_bfloat16():
    values = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    return values[np.isfinite(values.astype(np.float32))]


def test_bfloat16_is_a_step_from_the_exact_value_at_most(every_bfloat16):
    x = every_bfloat16.astype(np.float64)
    exact = x * 0.5 * erfc(-x / np.sqrt(2))
    error = np.abs(np.asarray(jax.jit(gelu)(every_bfloat16)).astype(np.float64) - exact)
    step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 1e-30))) - 7)
    assert (error <= np.maximum(step, 1e-6)).all()
    # The tanh approximation, which would do as well if this test could not tell, is not as near.
    other = np.asarray(jax.nn.gelu(every_bfloat16, approximate=True)).astype(np.float64)
    assert (np.abs(other - exact) > np.maximum(step, 1e-6)).any()


def test_gradient_of_bfloat16(every_bfloat16):
    x = every_bfloat16.astype(np.float64)
    slope = np.asarray(jax.jit(jax.vmap(jax.grad(gelu)))(every_bfloat16)).astype(np.float64)
    exact = ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slope, exact, atol=5e-3)


def test_float32_is_exact():
    x = np.linspace(-6, 6, 1001)
    np.testing.assert_allclose(gelu(jnp.float32(x)), x * ndtr(x), atol=2e-6)
