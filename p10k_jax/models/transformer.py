"""What ViT and EVA are built of: tokens with positions, layers of their blocks, pooling.

Attribute paths are those of timm's `layers`, so that state dicts load by name.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from p10k_jax.models.gelu import gelu
from p10k_jax.models.heads import Classifier
from p10k_jax.models.layers import GemPool, LayerNorm, check_choice

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's own
}
POOLS = ("token", "avg", "map", "gem")
POSITIONS = ("learned", "sincos", "none")

weights_init = nnx.initializers.truncated_normal(stddev=0.02)
_zeros = nnx.initializers.zeros_init()


def linear(
    features_in: int, features_out: int, *, bias: bool = True, dtype, rngs: nnx.Rngs, kernel_init=weights_init
) -> nnx.Linear:
    """A dense layer that starts as a ViT's."""
    settings = {"use_bias": bias, "kernel_init": kernel_init, "bias_init": _zeros, "dtype": dtype, "rngs": rngs}
    return nnx.Linear(features_in, features_out, **settings)


class PatchProjection(nnx.Module):
    """A convolution whose stride is its kernel size, written as one matrix product.

    The kernel keeps the convolution's shape `[p, p, 3, d]`, so that it loads as a convolution does; XLA compiles the
    product into a better program than the convolution on every backend (openxla/xla#34273).
    """

    def __init__(self, patch_size: int, width: int, *, bias: bool, dtype, rngs: nnx.Rngs):
        fan_in = nnx.initializers.lecun_normal(in_axis=(0, 1, 2), out_axis=3)
        self.kernel = nnx.Param(fan_in(rngs.params(), (patch_size, patch_size, 3, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32)) if bias else None
        self.patch_size, self.dtype = patch_size, dtype

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        b, h, w, c = images.shape
        p = self.patch_size
        if h % p or w % p:
            raise ValueError(f"Images of {h} x {w} pixels do not divide into patches of {p}.")
        patches = images.astype(self.dtype).reshape(b, h // p, p, w // p, p, c)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(b, (h // p) * (w // p), p * p * c)
        kernel = self.kernel[...].astype(self.dtype).reshape(p * p * c, -1)
        tokens = patches @ kernel
        return tokens if self.bias is None else tokens + self.bias[...].astype(self.dtype)


class PatchEmbed(nnx.Module):
    """Cuts images into patches and projects each to a token; exists to carry timm's name `patch_embed.proj`."""

    def __init__(self, patch_size: int, width: int, *, bias: bool, dtype, rngs: nnx.Rngs):
        self.proj = PatchProjection(patch_size, width, bias=bias, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        return self.proj(images)


class LayerScale(nnx.Module):
    """A learned factor a channel on a residual branch (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, width: int, initial: float, *, dtype):
        self.gamma = nnx.Param(jnp.full((width,), initial, jnp.float32))
        self.dtype = dtype

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return tokens * self.gamma[...].astype(self.dtype)


class Mlp(nnx.Module):
    """Two dense layers with an activation between them."""

    def __init__(
        self, width: int, hidden: int, *, activation: str, dtype, rngs: nnx.Rngs, last_kernel_init=weights_init
    ):
        self.fc1 = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = linear(hidden, width, dtype=dtype, rngs=rngs, kernel_init=last_kernel_init)
        self.activation = ACTIVATIONS[activation]

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(self.activation(self.fc1(tokens)))


class SwiGlu(nnx.Module):
    """Gated MLP (Shazeer, arXiv 2002.05202): `fc1` gives the gate's half and the value's half in one product."""

    def __init__(self, width: int, hidden: int, *, dtype, rngs: nnx.Rngs, last_kernel_init=weights_init):
        self.fc1 = linear(width, 2 * (hidden // 2), dtype=dtype, rngs=rngs)
        self.fc2 = linear(hidden // 2, width, dtype=dtype, rngs=rngs, kernel_init=last_kernel_init)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        gate, value = jnp.split(self.fc1(tokens), 2, axis=-1)
        return self.fc2(jax.nn.silu(gate) * value)


class AttentionPool(nnx.Module):
    """Multi-head attention pooling (MAP; Lee et al., arXiv 1810.00825; Zhai et al., arXiv 2106.04560): one learned
    query over tokens, then an MLP; timm's `AttentionPoolLatent`."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, *, activation: str, epsilon: float, dtype, rngs: nnx.Rngs
    ):
        self.latent = nnx.Param(weights_init(rngs.params(), (1, 1, width), jnp.float32))
        self.q = linear(width, width, dtype=dtype, rngs=rngs)
        self.kv = linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, int(width * mlp_ratio), activation=activation, dtype=dtype, rngs=rngs)
        self.heads, self.dtype = heads, dtype

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        b, n, d = tokens.shape
        query = self.q(jnp.broadcast_to(self.latent[...].astype(self.dtype), (b, 1, d)))
        pairs = self.kv(tokens).reshape(b, n, 2, self.heads, d // self.heads)
        query = query.reshape(b, 1, self.heads, d // self.heads)
        mixed = jax.nn.dot_product_attention(query, pairs[:, :, 0], pairs[:, :, 1])
        pooled = self.proj(mixed.reshape(b, 1, d))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


def resample_positions(positions: Float[Array, "1 n d"], prefix: int, rows: int, columns: int) -> Float[Array, "1 m d"]:
    """Positions of a square grid for one of `rows` by `columns`, by antialiased bicubic resampling as timm does it.

    Args:
        positions: Of the prefix tokens, then of the patches in rows.
        prefix: Number of prefix tokens; theirs stay as they are.
        rows, columns: Of patches.

    Raises:
        ValueError: the positions make no square grid.
    """
    count, width = positions.shape[1:]
    side = math.isqrt(count - prefix)
    if side**2 != count - prefix:
        raise ValueError(f"pos_embed: {count} positions less {prefix} prefix tokens make no square grid.")
    if (rows, columns) == (side, side):
        return positions
    grid = positions[:, prefix:].astype(jnp.float32).reshape(side, side, width)
    grid = jax.image.resize(grid, (rows, columns, width), method="cubic", antialias=True)
    return jnp.concatenate([positions[:, :prefix], grid.reshape(1, -1, width)], axis=1)


def sincos_positions(width: int, rows: int, columns: int) -> np.ndarray:
    """Fixed two-dimensional sine-cosine positions (Chen et al., arXiv 2104.02057): float32[rows*columns, width].

    Raises ValueError where `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"positions='sincos' needs a width that is a multiple of 4, not {width}.")
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width / 4))
    y, x = (axis.ravel()[:, None] * frequencies for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)


class TokenTrunk(Classifier):
    """The two ends of a transformer: images to tokens with positions, and tokens to what is classified. What derives
    from this calls `add_embedding` before it makes its blocks, and `add_pooling` after."""

    def add_embedding(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        class_token: bool,
        registers: int,
        embed_prefix: bool,
        positions: str,
        pre_norm: bool,
        epsilon: float,
        token_stddev: float,
        dtype,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes `patch_embed`, `cls_token`, `reg_token`, `pos_embed` and `norm_pre`, as far as they are wanted.

        Raises:
            ValueError: a size that does not divide, or an unknown name.
        """
        check_choice("positions", positions, POSITIONS)
        if image_size % patch_size:
            nearest = max(1, round(image_size / patch_size)) * patch_size
            raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}; try {nearest}.")
        patches = (image_size // patch_size) ** 2
        self.prefix = int(class_token) + registers
        self.patch_embed = PatchEmbed(patch_size, width, bias=not pre_norm, dtype=dtype, rngs=rngs)
        if class_token:
            self.cls_token = nnx.Param(token_stddev * jax.random.normal(rngs.params(), (1, 1, width)))
        if registers:
            self.reg_token = nnx.Param(token_stddev * jax.random.normal(rngs.params(), (1, registers, width)))
        self.prefix_positions = self.prefix if embed_prefix and positions != "none" else 0
        if positions != "none":
            start = weights_init(rngs.params(), (1, self.prefix_positions + patches, width), jnp.float32)
            if positions == "sincos":
                grid = image_size // patch_size
                start = start.at[:, -patches:].set(sincos_positions(width, grid, grid))
            self.pos_embed = nnx.Param(start)
        if pre_norm:
            self.norm_pre = LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.positions, self.embed_prefix, self.pre_norm = positions, embed_prefix, pre_norm
        self.patch_size, self.dtype = patch_size, dtype

    def add_pooling(
        self,
        *,
        pool: str,
        final_norm: bool,
        fc_norm: bool | None,
        width: int,
        heads: int,
        mlp_ratio: float,
        activation: str,
        attend_prefix: bool,
        epsilon: float,
        dtype,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes `norm` or `fc_norm`, and `attn_pool` or `gem_pool`, as far as they are wanted; with `attend_prefix`
        attention pooling looks at class and register tokens too.

        Raises:
            ValueError: an unknown pooling, or one that needs a class token where there is none.
        """
        check_choice("pool", pool, POOLS if hasattr(self, "cls_token") else POOLS[1:])
        self.norm_pooled = final_norm and (pool == "avg" if fc_norm is None else fc_norm)
        self.norm_tokens = final_norm and not self.norm_pooled
        if final_norm:
            norm = LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
            setattr(self, "fc_norm" if self.norm_pooled else "norm", norm)
        if pool == "map":
            settings = {"activation": activation, "epsilon": epsilon, "dtype": dtype, "rngs": rngs}
            self.attn_pool = AttentionPool(width, heads, mlp_ratio, **settings)
        elif pool == "gem":
            self.gem_pool = GemPool()
        self.pool, self.attend_prefix = pool, attend_prefix

    def embed(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Tokens with their positions: class token, registers, patches in rows."""
        tokens = self.patch_embed(images)
        rows, columns = (side // self.patch_size for side in images.shape[1:3])
        learned = [getattr(self, name)[...] for name in ("cls_token", "reg_token") if hasattr(self, name)]
        prefix = [jnp.broadcast_to(token, (images.shape[0], *token.shape[1:])).astype(self.dtype) for token in learned]
        if self.positions == "none":
            tokens = jnp.concatenate([*prefix, tokens], axis=1)
        else:
            positions = resample_positions(self.pos_embed[...], self.prefix_positions, rows, columns)
            positions = positions.astype(self.dtype)
            if self.embed_prefix:
                tokens = jnp.concatenate([*prefix, tokens], axis=1) + positions
            else:
                tokens = jnp.concatenate([*prefix, tokens + positions], axis=1)
        return self.norm_pre(tokens) if self.pre_norm else tokens

    def pooled(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        """What is classified."""
        if self.norm_tokens:
            tokens = self.norm(tokens)
        if self.pool == "token":
            features = tokens[:, 0]
        elif self.pool == "map":
            features = self.attn_pool(tokens if self.attend_prefix else tokens[:, self.prefix :])
        else:
            patches = tokens[:, self.prefix :]
            features = patches.mean(axis=1) if self.pool == "avg" else self.gem_pool(patches)
        return self.fc_norm(features) if self.norm_pooled else features
