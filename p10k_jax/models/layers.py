"""What more than one family of models is built of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray


class GemPool(nnx.Module):
    """Generalised mean over tokens with a learned power (Radenovic et al., arXiv 1711.02512); what is below 1e-6, all
    negative values among it, counts as 1e-6."""

    def __init__(self):
        self.p = nnx.Param(jnp.full((1,), 3.0, jnp.float32))

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        power = self.p[...]
        logarithms = jnp.log(jnp.maximum(tokens.astype(jnp.float32), 1e-6))  # of powers, float32 would run out
        mean = jax.nn.logsumexp(power * logarithms, axis=1) - jnp.log(tokens.shape[1])
        return jnp.exp(mean / power).astype(tokens.dtype)


def drop_path_rates(last: float, blocks: int, *, train: bool, key: PRNGKeyArray | None) -> Float[np.ndarray, " n"]:
    """Each block's chance to be skipped (stochastic depth; Huang et al., arXiv 1603.09382): linear from 0 to `last`,
    and 0 for all outside training.

    Raises:
        ValueError: there is something to draw, but no key.
    """
    if not train or not last:
        return np.zeros(blocks)
    if key is None:
        raise ValueError("drop_path needs a key in training.")
    return np.linspace(0.0, last, blocks)


def kept_branches(
    key: PRNGKeyArray | None, block: int, rate: float, branches: int, examples: int
) -> Float[Array, "branches examples"]:
    """What multiplies a block's residual branches, an example each: 0 with chance `rate`, else 1 / (1 - rate).

    The draw depends on `key` and the block's number alone.
    """
    if not rate:
        return jnp.ones((branches, examples))
    return jax.random.bernoulli(jax.random.fold_in(key, block), 1 - rate, (branches, examples)) / (1 - rate)


def check_choice(setting: str, value: str, known: Sequence[str]) -> None:
    """Raises ValueError unless `value` is among `known`."""
    if value not in known:
        raise ValueError(f"{setting}={value!r} is unknown; known: {', '.join(map(repr, known))}.")


def check_drop_path(rate: float) -> None:
    """Raises ValueError for a chance outside [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path={rate} is outside [0, 1).")


class LayerNorm(nnx.LayerNorm):
    """LayerNorm in float32 whose result has another dtype; flax's own rounds scale and bias, and their gradients, to
    the dtype of the result."""

    def __init__(self, features: int, *, epsilon: float, dtype, rngs: nnx.Rngs):
        super().__init__(features, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)
        self.result_dtype = dtype

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        return super().__call__(x).astype(self.result_dtype)


class BatchNorm(nnx.Module):
    """BatchNorm (Ioffe and Szegedy, arXiv 1502.03167) in float32 over all axes but the last, whose result has another
    dtype.

    flax's own rounds scale, bias and the remembered statistics to the dtype of the result; and it remembers by indexed
    assignment, which while tracing searches the whole program so far (see `functional.Keys`).

    torch's momentum of 0.1 weighs the new value, this 0.9 the old: the same average. torch divides the remembered
    variance by n - 1 and this by n, the number of values a channel has in the batch: 12,544 or more at 224 pixels and
    batch 256.
    """

    MOMENTUM, EPSILON = 0.9, 1e-5

    def __init__(self, features: int, *, dtype, zero: bool = False, bias: bool = True, ghost_batch: int = 0):
        """
        Args:
            features: Number of channels.
            dtype: Of the result.
            zero: The scale starts at 0, not at 1.
            bias: Whether there is one.
            ghost_batch: Every so many images in a row have statistics of their own, of which the mean is remembered
                (Hoffer et al., arXiv 1705.08741); 0: those of the whole batch, over all devices.
        """
        self.scale = nnx.Param(jnp.full(features, 0.0 if zero else 1.0))
        self.bias = nnx.Param(jnp.zeros(features)) if bias else None
        self.mean, self.var = nnx.BatchStat(jnp.zeros(features)), nnx.BatchStat(jnp.ones(features))
        self.result_dtype, self.ghost_batch = dtype, ghost_batch

    def __call__(self, x: Float[Array, "b ... c"], *, use_running_average: bool) -> Float[Array, "b ... c"]:
        """Otherwise the batch's own statistics are used, and remembered.

        Raises:
            ValueError: `ghost_batch` does not divide the batch.
        """
        x = x.astype(jnp.float32)
        if use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            average = self._over_ghosts if self.ghost_batch else _over_all
            mean = average(x)  # both means in one pass over x; rounding may make the difference negative
            var = jnp.maximum(0.0, average(jnp.square(x)) - jnp.square(mean))
            for remembered, seen in ((self.mean, mean), (self.var, var)):
                remembered.set_value(self.MOMENTUM * remembered[...] + (1 - self.MOMENTUM) * _over_all(seen))
        y = (x - mean) * (jax.lax.rsqrt(var + self.EPSILON) * self.scale[...])
        return (y if self.bias is None else y + self.bias[...]).astype(self.result_dtype)

    def _over_ghosts(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... c"]:
        """For each image the means over its ghost; the axes between have size 1."""
        if x.shape[0] % self.ghost_batch:
            raise ValueError(f"ghost_batch={self.ghost_batch} does not divide the {x.shape[0]} images of a batch.")
        means = x.mean(range(1, x.ndim - 1), keepdims=True)  # of images: cutting up x itself would copy it
        ghosts = means.reshape(-1, self.ghost_batch, *means.shape[1:])
        return jnp.broadcast_to(ghosts.mean(1, keepdims=True), ghosts.shape).reshape(means.shape)


def _over_all(x: Float[Array, "... c"]) -> Float[Array, " c"]:
    return x.mean(range(x.ndim - 1))
