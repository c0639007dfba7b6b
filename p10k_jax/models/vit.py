"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), with the module paths of timm's `vision_transformer.py`.

Attribute paths are timm's state-dict names (`blocks.0.attn.qkv`), so public weights load by name and a trained model
goes back to timm by name; see `p10k_jax.models.state_dict`.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.heads import LINEAR_HEAD, Classifier, HeadSettings


class ViTShape(NamedTuple):
    """The numbers that name a ViT's size."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0


# Sizes Ti and S: Touvron et al., arXiv 2012.12877, table 1; B, L and H: Dosovitskiy et al., table 1; g: Zhai et al.,
# arXiv 2106.04560, table 2; So400m: Alabdulmohsin et al., arXiv 2305.13035.
VIT_SHAPES = {
    "Ti": ViTShape(width=192, depth=12, heads=3),
    "S": ViTShape(width=384, depth=12, heads=6),
    "B": ViTShape(width=768, depth=12, heads=12),
    "L": ViTShape(width=1024, depth=24, heads=16),
    "H": ViTShape(width=1280, depth=32, heads=16),
    "g": ViTShape(width=1408, depth=40, heads=16, mlp_ratio=48 / 11),
    "So400m": ViTShape(width=1152, depth=27, heads=16, mlp_ratio=3.7362),
}

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's own
}
POOLS = ("token", "avg", "map", "gem")

_weights = nnx.initializers.truncated_normal(stddev=0.02)
_zeros = nnx.initializers.zeros_init()


def _linear(features_in: int, features_out: int, *, dtype, rngs: nnx.Rngs, kernel_init=_weights) -> nnx.Linear:
    return nnx.Linear(features_in, features_out, kernel_init=kernel_init, bias_init=_zeros, dtype=dtype, rngs=rngs)


def _norm(width: int, *, epsilon: float, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)


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


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection; `qk_norm` normalises queries and keys a head
    (Dehghani et al., arXiv 2302.05442)."""

    def __init__(self, width: int, heads: int, *, qk_norm: bool, epsilon: float, dtype, rngs: nnx.Rngs):
        self.qkv = _linear(width, 3 * width, dtype=dtype, rngs=rngs)
        if qk_norm:
            self.q_norm = _norm(width // heads, epsilon=epsilon, dtype=dtype, rngs=rngs)
            self.k_norm = _norm(width // heads, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.proj = _linear(width, width, dtype=dtype, rngs=rngs)
        self.heads, self.qk_norm = heads, qk_norm

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        b, n, d = tokens.shape
        qkv = self.qkv(tokens).reshape(b, n, 3, self.heads, d // self.heads)
        queries, keys, values = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if self.qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        mixed = jax.nn.dot_product_attention(queries, keys, values)
        return self.proj(mixed.reshape(b, n, d))


class Mlp(nnx.Module):
    """Two dense layers with an activation between them."""

    def __init__(self, width: int, hidden: int, *, activation: str, dtype, rngs: nnx.Rngs):
        self.fc1 = _linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = _linear(hidden, width, dtype=dtype, rngs=rngs)
        self.activation = ACTIVATIONS[activation]

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(self.activation(self.fc1(tokens)))


class SwiGlu(nnx.Module):
    """Gated MLP (Shazeer, arXiv 2002.05202): `fc1` gives the gate's half and the value's half in one product."""

    def __init__(self, width: int, hidden: int, *, dtype, rngs: nnx.Rngs):
        self.fc1 = _linear(width, 2 * (hidden // 2), dtype=dtype, rngs=rngs)
        self.fc2 = _linear(hidden // 2, width, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        gate, value = jnp.split(self.fc1(tokens), 2, axis=-1)
        return self.fc2(jax.nn.silu(gate) * value)


class Block(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        *,
        activation: str,
        qk_norm: bool,
        layer_scale: float,
        epsilon: float,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = _norm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads, qk_norm=qk_norm, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.norm2 = _norm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        hidden = int(width * mlp_ratio)
        if activation == "swiglu":
            self.mlp = SwiGlu(width, hidden, dtype=dtype, rngs=rngs)
        else:
            self.mlp = Mlp(width, hidden, activation=activation, dtype=dtype, rngs=rngs)
        if layer_scale:
            self.ls1 = LayerScale(width, layer_scale, dtype=dtype)
            self.ls2 = LayerScale(width, layer_scale, dtype=dtype)
        self.scaled = bool(layer_scale)

    def __call__(self, tokens: Float[Array, "b n d"], keep: Float[Array, "2 b"]) -> Float[Array, "b n d"]:
        """`keep` multiplies the two residual branches of each example: 1, or what stochastic depth drew."""
        for branch, norm, mix, scale in (
            (0, self.norm1, self.attn, self.ls1 if self.scaled else None),
            (1, self.norm2, self.mlp, self.ls2 if self.scaled else None),
        ):
            update = mix(norm(tokens))
            update = update if scale is None else scale(update)
            tokens = tokens + update * keep[branch, :, None, None].astype(update.dtype)
        return tokens


class AttentionPool(nnx.Module):
    """Multi-head attention pooling (MAP; Lee et al., arXiv 1810.00825; Zhai et al., arXiv 2106.04560): one learned
    query over all tokens, then an MLP; timm's `AttentionPoolLatent`."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, *, activation: str, epsilon: float, dtype, rngs: nnx.Rngs
    ):
        self.latent = nnx.Param(_weights(rngs.params(), (1, 1, width), jnp.float32))
        self.q = _linear(width, width, dtype=dtype, rngs=rngs)
        self.kv = _linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.proj = _linear(width, width, dtype=dtype, rngs=rngs)
        self.norm = _norm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
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


class VisionTransformer(Classifier):
    """ViT classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        image_size: Side in pixels of the square that the table of positions is for, a multiple of `patch_size`.
            Pictures of another size, also oblong ones, have the table resampled for them as they pass.
        patch_size: Side of a patch in pixels.
        width, depth, heads, mlp_ratio: The transformer's shape; `heads` divides `width`.
        pool: `'token'` classifies the class token; `'avg'` the mean of the patch tokens, normalised after the mean
            (`fc_norm`, as timm's `global_pool='avg'`); `'map'` attention pooling; `'gem'` the generalised mean of the
            normalised patch tokens.
        class_token: Whether there is one; without it `pool` cannot be `'token'`.
        registers: Number of further learned tokens that no pooling reads (Darcet et al., arXiv 2309.16588).
        embed_prefix: Whether class and register tokens have positions of their own.
        positions: How the learned positions start: `'learned'` (small noise) or `'sincos'`.
        activation: Of the MLPs: one of `ACTIVATIONS`, or `'swiglu'`, whose `mlp_ratio` counts gate and value.
        pre_norm: Normalises the embedded tokens before the first block, as CLIP does; patches then have no bias.
        qk_norm: Normalises queries and keys.
        layer_scale: What LayerScale starts at; 0 has none.
        drop_path: Chance that the last block's residual branches are skipped for an image in training; that of the
            others rises to it linearly (stochastic depth; Huang et al., arXiv 1603.09382).
        norm_epsilon: Of every LayerNorm.
        head: What stands on the trunk.
        dtype: What the trunk computes in. Parameters, neck, heads and outputs are float32.

    Raises:
        ValueError: a size that does not divide, an unknown name, or settings that exclude each other.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        pool: str = "token",
        class_token: bool = True,
        registers: int = 0,
        embed_prefix: bool = True,
        positions: str = "learned",
        activation: str = "gelu",
        pre_norm: bool = False,
        qk_norm: bool = False,
        layer_scale: float = 0.0,
        drop_path: float = 0.0,
        norm_epsilon: float = 1e-6,
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check_sizes(image_size, patch_size, width, heads)
        _check_choice("pool", pool, POOLS if class_token else POOLS[1:])
        _check_choice("positions", positions, ("learned", "sincos"))
        _check_choice("activation", activation, (*ACTIVATIONS, "swiglu"))
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path={drop_path} is outside [0, 1).")
        grid = image_size // patch_size
        prefix = int(class_token) + registers
        norm = functools.partial(_norm, width, epsilon=norm_epsilon, dtype=dtype, rngs=rngs)
        self.patch_embed = PatchEmbed(patch_size, width, bias=not pre_norm, dtype=dtype, rngs=rngs)
        if class_token:
            self.cls_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, 1, width)))
        if registers:
            self.reg_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, registers, width)))
        self.prefix_positions = prefix if embed_prefix else 0
        start = _weights(rngs.params(), (1, self.prefix_positions + grid * grid, width), jnp.float32)
        if positions == "sincos":
            start = start.at[:, -grid * grid :].set(sincos_positions(width, grid, grid))
        self.pos_embed = nnx.Param(start)
        if pre_norm:
            self.norm_pre = norm()
        settings = {"activation": activation, "epsilon": norm_epsilon, "dtype": dtype, "rngs": rngs}
        blocks = [
            Block(width, heads, mlp_ratio, qk_norm=qk_norm, layer_scale=layer_scale, **settings) for _ in range(depth)
        ]
        self.blocks = nnx.List(blocks)
        if pool == "avg":
            self.fc_norm = norm()
        else:
            self.norm = norm()
        if pool == "map":
            settings["activation"] = "gelu" if activation == "swiglu" else activation
            self.attn_pool = AttentionPool(width, heads, mlp_ratio, **settings)
        elif pool == "gem":
            self.gem_pool = GemPool()
        self.add_heads(width, num_classes, head, rngs=rngs)
        self.pool, self.prefix, self.embed_prefix, self.dtype = pool, prefix, embed_prefix, dtype
        self.class_token, self.pre_norm, self.drop_path = class_token, pre_norm, drop_path
        self.patch_size, self.grid = patch_size, grid

    def _embed(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Tokens with their positions: class token, registers, patches in rows."""
        tokens = self.patch_embed(images)
        rows, columns = (side // self.patch_size for side in images.shape[1:3])
        positions = resample_positions(self.pos_embed[...], self.prefix_positions, rows, columns).astype(self.dtype)
        learned = [getattr(self, name)[...] for name in ("cls_token", "reg_token") if hasattr(self, name)]
        prefix = [jnp.broadcast_to(token, (len(images), *token.shape[1:])).astype(self.dtype) for token in learned]
        if self.embed_prefix:
            return jnp.concatenate([*prefix, tokens], axis=1) + positions
        return jnp.concatenate([*prefix, tokens + positions], axis=1)

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The pooled, normalised tokens; in training `key` draws the stochastic depth."""
        if train and self.drop_path and key is None:
            raise ValueError("drop_path needs a key in training.")
        tokens = self._embed(images)
        if self.pre_norm:
            tokens = self.norm_pre(tokens)
        rates = np.linspace(0.0, self.drop_path, len(self.blocks))
        for number, (block, rate) in enumerate(zip(self.blocks, rates, strict=True)):
            keep = jnp.ones((2, len(images)))
            if train and rate > 0:
                keep = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, (2, len(images))) / (1 - rate)
            tokens = block(tokens, keep)
        if self.pool == "avg":
            return self.fc_norm(tokens[:, self.prefix :].mean(axis=1))
        tokens = self.norm(tokens)
        if self.pool == "token":
            return tokens[:, 0]
        return self.attn_pool(tokens) if self.pool == "map" else self.gem_pool(tokens[:, self.prefix :])


def _check_sizes(image_size: int, patch_size: int, width: int, heads: int) -> None:
    if image_size % patch_size:
        nearest = max(1, round(image_size / patch_size)) * patch_size
        raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}; try {nearest}.")
    if width % heads:
        raise ValueError(f"width={width} is not a multiple of heads={heads}.")


def _check_choice(setting: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{setting}={value!r} is unknown; known: {', '.join(map(repr, known))}.")
