"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), with the module paths of timm's `vision_transformer.py`.

Attribute paths are timm's state-dict names (`blocks.0.attn.qkv`), so public weights load by name and a trained model
goes back to timm by name; see `p10k_jax.models.state_dict`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class ViTShape(NamedTuple):
    """The three numbers that name a ViT's size."""

    width: int
    depth: int
    heads: int


# Sizes Ti and S: Touvron et al., arXiv 2012.12877, table 1; B and L: Dosovitskiy et al., table 1.
VIT_SHAPES = {
    "Ti": ViTShape(width=192, depth=12, heads=3),
    "S": ViTShape(width=384, depth=12, heads=6),
    "B": ViTShape(width=768, depth=12, heads=12),
    "L": ViTShape(width=1024, depth=24, heads=16),
}

_weights = nnx.initializers.truncated_normal(stddev=0.02)
_zeros = nnx.initializers.zeros_init()


def _linear(features_in: int, features_out: int, *, dtype, rngs: nnx.Rngs, kernel_init=_weights) -> nnx.Linear:
    return nnx.Linear(features_in, features_out, kernel_init=kernel_init, bias_init=_zeros, dtype=dtype, rngs=rngs)


def _norm(width: int, *, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, rngs=rngs)


class PatchProjection(nnx.Module):
    """A convolution whose stride is its kernel size, written as one matrix product.

    The kernel keeps the convolution's shape `[p, p, 3, d]`, so that it loads as a convolution does; XLA compiles the
    product into a better program than the convolution on every backend (openxla/xla#34273).
    """

    def __init__(self, patch_size: int, width: int, *, dtype, rngs: nnx.Rngs):
        fan_in = nnx.initializers.lecun_normal(in_axis=(0, 1, 2), out_axis=3)
        self.kernel = nnx.Param(fan_in(rngs.params(), (patch_size, patch_size, 3, width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.patch_size, self.dtype = patch_size, dtype

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        b, h, w, c = images.shape
        p = self.patch_size
        patches = images.astype(self.dtype).reshape(b, h // p, p, w // p, p, c)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(b, (h // p) * (w // p), p * p * c)
        kernel = self.kernel[...].astype(self.dtype).reshape(p * p * c, -1)
        return patches @ kernel + self.bias[...].astype(self.dtype)


class PatchEmbed(nnx.Module):
    """Cuts images into patches and projects each to a token; exists to carry timm's name `patch_embed.proj`."""

    def __init__(self, patch_size: int, width: int, *, dtype, rngs: nnx.Rngs):
        self.proj = PatchProjection(patch_size, width, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        return self.proj(images)


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, width: int, heads: int, *, dtype, rngs: nnx.Rngs):
        self.qkv = _linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = _linear(width, width, dtype=dtype, rngs=rngs)
        self.heads = heads

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        b, n, d = tokens.shape
        qkv = self.qkv(tokens).reshape(b, n, 3, self.heads, d // self.heads)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.proj(mixed.reshape(b, n, d))


class Mlp(nnx.Module):
    """Two dense layers with the exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int, *, dtype, rngs: nnx.Rngs):
        self.fc1 = _linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = _linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(nnx.gelu(self.fc1(tokens), approximate=False))


class Block(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, dtype, rngs: nnx.Rngs):
        self.norm1 = _norm(width, dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = _norm(width, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, int(width * mlp_ratio), dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class VisionTransformer(nnx.Module):
    """ViT classifier.

    Args:
        num_classes: Width of the head; the head starts at zero, so the first loss is exactly log(num_classes).
        image_size: Side of the square input in pixels; a multiple of `patch_size`.
        patch_size: Side of a patch in pixels.
        width, depth, heads, mlp_ratio: The transformer's shape; `heads` divides `width`.
        pool: `'token'` classifies the class token; `'avg'` the mean of the patch tokens, normalised after the mean
            (`fc_norm`, as timm's `global_pool='avg'`). Both keep the class token, as timm does.
        dtype: What the trunk computes in. Parameters, head and logits are float32.

    Raises:
        ValueError: a size that does not divide, or an unknown `pool`.
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
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if image_size % patch_size:
            nearest = max(1, round(image_size / patch_size)) * patch_size
            raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}; try {nearest}.")
        if width % heads:
            raise ValueError(f"width={width} is not a multiple of heads={heads}.")
        if pool not in ("token", "avg"):
            raise ValueError(f"pool={pool!r} is unknown; known: 'token', 'avg'.")
        tokens = (image_size // patch_size) ** 2 + 1
        self.patch_embed = PatchEmbed(patch_size, width, dtype=dtype, rngs=rngs)
        self.cls_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(_weights(rngs.params(), (1, tokens, width), jnp.float32))
        self.blocks = nnx.List([Block(width, heads, mlp_ratio, dtype=dtype, rngs=rngs) for _ in range(depth)])
        if pool == "token":
            self.norm = _norm(width, dtype=dtype, rngs=rngs)
        else:
            self.fc_norm = _norm(width, dtype=dtype, rngs=rngs)
        # In float32: among thousands of look-alike classes bfloat16's eight bits make ties of one image in twenty.
        self.head = _linear(width, num_classes, dtype=jnp.float32, rngs=rngs, kernel_init=_zeros)
        self.pool, self.dtype = pool, dtype

    def features(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """The pooled, normalised embedding that the head classifies."""
        tokens = self.patch_embed(images)
        class_token = jnp.broadcast_to(self.cls_token[...].astype(self.dtype), (len(images), 1, tokens.shape[-1]))
        tokens = jnp.concatenate([class_token, tokens], axis=1) + self.pos_embed[...].astype(self.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        if self.pool == "token":
            return self.norm(tokens[:, 0])
        return self.fc_norm(tokens[:, 1:].mean(axis=1))

    def __call__(self, images: Float[Array, "b h w 3"], *, train: bool = False) -> Float[Array, "b c"]:
        """Normalised images to float32 logits. `train` changes nothing in this family."""
        del train
        return self.head(self.features(images))
