"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), with the module paths of timm's `vision_transformer.py`.

Attribute paths are timm's state-dict names (`blocks.0.attn.qkv`), so public weights load by name and a trained model
goes back to timm by name; see `p10k_jax.weights.state_dict`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.attention import ATTENTIONS, attend, project_from_heads, project_to_heads
from p10k_jax.models.heads import LINEAR_HEAD, HeadSettings
from p10k_jax.models.layers import LayerNorm, check_choice, check_drop_path, drop_path_rates, kept_branches
from p10k_jax.models.remat import REMATS, run_block
from p10k_jax.models.transformer import (
    ACTIVATIONS,
    LayerScale,
    Mlp,
    SwiGlu,
    TokenTrunk,
    linear,
)


class ViTShape(NamedTuple):
    """The numbers that name a ViT's size."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0


# Sizes Ti and S: Touvron et al., arXiv 2012.12877, table 1; B, L and H: Dosovitskiy et al., table 1; g and G: Zhai et
# al., arXiv 2106.04560, table 2; So400m: Alabdulmohsin et al., arXiv 2305.13035.
VIT_SHAPES = {
    "Ti": ViTShape(width=192, depth=12, heads=3),
    "S": ViTShape(width=384, depth=12, heads=6),
    "B": ViTShape(width=768, depth=12, heads=12),
    "L": ViTShape(width=1024, depth=24, heads=16),
    "H": ViTShape(width=1280, depth=32, heads=16),
    "g": ViTShape(width=1408, depth=40, heads=16, mlp_ratio=48 / 11),
    "G": ViTShape(width=1664, depth=48, heads=16, mlp_ratio=64 / 13),
    "So400m": ViTShape(width=1152, depth=27, heads=16, mlp_ratio=3.7362),
}


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection; `qk_norm` normalises queries and keys a head
    (Dehghani et al., arXiv 2302.05442)."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool,
        qk_norm: bool,
        attention: str,
        epsilon: float,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.qkv = linear(width, 3 * width, bias=qkv_bias, dtype=dtype, rngs=rngs)
        if qk_norm:
            self.q_norm = LayerNorm(width // heads, epsilon=epsilon, dtype=dtype, rngs=rngs)
            self.k_norm = LayerNorm(width // heads, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.heads, self.qk_norm, self.attention = heads, qk_norm, attention

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        queries, keys, values = project_to_heads(self.qkv, tokens, heads=self.heads, parts=3)
        if self.qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        return project_from_heads(self.proj, attend(queries, keys, values, how=self.attention))


class Block(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        *,
        activation: str,
        qkv_bias: bool,
        qk_norm: bool,
        layer_scale: float,
        attention: str,
        epsilon: float,
        dtype,
        rngs: nnx.Rngs,
    ):
        norm = {"epsilon": epsilon, "dtype": dtype, "rngs": rngs}
        self.norm1 = LayerNorm(width, **norm)
        self.attn = Attention(width, heads, qkv_bias=qkv_bias, qk_norm=qk_norm, attention=attention, **norm)
        self.norm2 = LayerNorm(width, **norm)
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


class VisionTransformer(TokenTrunk):
    """ViT classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        image_size: Side in pixels of the square that the table of positions is for, a multiple of `patch_size`.
            Pictures of another size, also oblong ones, have the table resampled for them as they pass.
        patch_size: Side of a patch in pixels.
        width, depth, heads, mlp_ratio: The transformer's shape; `heads` divides `width`.
        pool: `'token'` classifies the class token; `'avg'` the mean of the patch tokens; `'map'` attention pooling of
            them; `'gem'` their generalised mean.
        class_token: Whether there is one; without it `pool` cannot be `'token'`.
        registers: Number of further learned tokens that no pooling reads (Darcet et al., arXiv 2309.16588).
        embed_prefix: Whether class and register tokens have positions of their own.
        positions: How the learned positions start: `'learned'` (small noise) or `'sincos'`; `'none'` has none.
        activation: Of the MLPs: one of `ACTIVATIONS`, or `'swiglu'`, whose `mlp_ratio` counts gate and value.
        pre_norm: Normalises the embedded tokens before the first block, as CLIP does; patches then have no bias.
        final_norm: Whether there is a norm after the blocks.
        fc_norm: Whether that stands after the pooling (`fc_norm`) and not before (`norm`); None has it there for
            `pool='avg'` alone.
        qkv_bias: Whether queries, keys and values have biases.
        qk_norm: Normalises queries and keys.
        layer_scale: What LayerScale starts at; 0 has none.
        drop_path: Chance that the last block's residual branches are skipped for an image in training; that of the
            others rises to it linearly (stochastic depth; Huang et al., arXiv 1603.09382).
        norm_epsilon: Of every LayerNorm.
        attention: Of `p10k_jax.models.attention.ATTENTIONS`: how it is computed changes memory and speed alone.
        remat: Of `p10k_jax.models.remat.REMATS`: what is computed again for the gradient; likewise.
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
        final_norm: bool = True,
        fc_norm: bool | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        layer_scale: float = 0.0,
        drop_path: float = 0.0,
        norm_epsilon: float = 1e-6,
        attention: str = ATTENTIONS[0],
        remat: str = REMATS[0],
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choice("activation", activation, (*ACTIVATIONS, "swiglu"))
        check_choice("attention", attention, ATTENTIONS)
        check_choice("remat", remat, REMATS)
        check_drop_path(drop_path)
        if width % heads:
            raise ValueError(f"width={width} is not a multiple of heads={heads}.")
        settings = {"epsilon": norm_epsilon, "dtype": dtype, "rngs": rngs}
        self.add_embedding(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            class_token=class_token,
            registers=registers,
            embed_prefix=embed_prefix,
            positions=positions,
            pre_norm=pre_norm,
            token_stddev=1e-6,
            **settings,
        )
        block = {"activation": activation, "qkv_bias": qkv_bias, "qk_norm": qk_norm, "layer_scale": layer_scale}
        block |= {"attention": attention}
        self.blocks = nnx.List([Block(width, heads, mlp_ratio, **block, **settings) for _ in range(depth)])
        self.add_pooling(
            pool=pool,
            final_norm=final_norm,
            fc_norm=fc_norm,
            width=width,
            heads=heads,
            mlp_ratio=mlp_ratio,
            activation="gelu" if activation == "swiglu" else activation,
            attend_prefix=False,
            **settings,
        )
        self.add_heads(width, num_classes, head, rngs=rngs)
        self.drop_path, self.remat = drop_path, remat

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The pooled, normalised tokens; in training `key` draws the stochastic depth."""
        rates = drop_path_rates(self.drop_path, len(self.blocks), train=train, key=key)
        tokens = self.embed(images)
        for number, (block, rate) in enumerate(zip(self.blocks, rates, strict=True)):
            keep = kept_branches(key, number, rate, 2, images.shape[0])
            tokens = run_block(block, tokens, keep, remat=self.remat)
        return self.pooled(tokens)
