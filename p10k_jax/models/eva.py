"""Vision transformers with rotary positions: EVA-02 (Fang et al., arXiv 2303.11331), DINOv3 (Simeoni et al., arXiv
2508.10104), RoPE-ViT (Heo et al., arXiv 2403.13298), Perception Encoder (Bolya et al., arXiv 2504.13181), and EVA
(Fang et al., arXiv 2211.07636), which has none; with the module paths of timm's `eva.py`.

A rotary position turns each pair of a query's and a key's channels by an angle that grows with the patch's row or
column (Su et al., arXiv 2104.09864), so that their product depends on the offset between two patches. The angles are
computed for the picture at hand, whatever its size.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.attention import ATTENTIONS, attend
from p10k_jax.models.heads import LINEAR_HEAD, HeadSettings
from p10k_jax.models.layers import LayerNorm, check_choice, check_drop_path, drop_path_rates, kept_branches
from p10k_jax.models.remat import REMATS, run_block
from p10k_jax.models.transformer import ACTIVATIONS, Mlp, SwiGlu, TokenTrunk, linear

ROTARIES = ("grid", "unit", "learned", "none")


class Rotary(NamedTuple):
    """How patches get their angles.

    Attributes:
        name: `'grid'`: coordinates are row and column numbers, frequencies 1 / temperature**(i/n); `'unit'`: they are
            the patches' centres on a picture that reaches from -1 to 1, frequencies 2 pi / temperature**(i/n);
            `'learned'`: row and column numbers, with frequencies of both learned for every block and head, which start
            at 1 / temperature**(i/n) in a direction by chance; `'none'`.
        temperature: Of the frequencies, n of them a coordinate.
        side: Patches a side at which a grid's step is 1: other grids are stretched to cover it; 0 stretches none.
        offset: What is added to rows and columns, before they are stretched.
        columns_first: Whether the first half of a head's channels goes by columns and not by rows.
        halves: Whether channel i is paired with channel i + d/2 of the head's d, and not 2i with 2i + 1.
    """

    name: str = "grid"
    temperature: float = 10_000.0
    side: int = 0
    offset: float = 0.0
    columns_first: bool = False
    halves: bool = False


def patch_coordinates(rotary: Rotary, rows: int, columns: int) -> Float[np.ndarray, "n 2"]:
    """The coordinates of a grid of patches, in rows: (row, column) or with `columns_first` (column, row)."""

    def along(count: int) -> np.ndarray:
        if rotary.name == "unit":
            return 2 * (np.arange(count) + 0.5) / count - 1
        return (np.arange(count) + rotary.offset) * (rotary.side / count if rotary.side else 1.0)

    row, column = np.meshgrid(along(rows), along(columns), indexing="ij")
    axes = (column, row) if rotary.columns_first else (row, column)
    return np.stack(axes, axis=-1).reshape(-1, 2)


def rotary_angles(rotary: Rotary, head_width: int, rows: int, columns: int) -> Float[np.ndarray, "n p"]:
    """The angles in radians by which the pairs of a head's channels are turned, for patches in rows; of `'grid'` and
    `'unit'`."""
    bands = rotary.temperature ** -(np.arange(head_width // 4) / (head_width // 4))
    if rotary.name == "unit":
        bands = 2 * math.pi * bands
    angles = patch_coordinates(rotary, rows, columns)[:, :, None] * bands
    return angles.reshape(rows * columns, -1)


class Turn(NamedTuple):
    """Sines and cosines of the angles of all tokens: float32, alike for all heads or a head each."""

    sine: Float[Array, "n #h p"]
    cosine: Float[Array, "n #h p"]


def rotate(channels: Float[Array, "b n h d"], turn: Turn, *, halves: bool) -> Float[Array, "b n h d"]:
    """Turns each pair of channels by its angle, in float32."""
    wide = channels.astype(jnp.float32)
    sine, cosine = turn
    if halves:
        first, second = jnp.split(wide, 2, axis=-1)
    else:
        first, second = wide[..., 0::2], wide[..., 1::2]
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    joined = jnp.concatenate(turned, axis=-1) if halves else jnp.stack(turned, axis=-1).reshape(channels.shape)
    return joined.astype(channels.dtype)


class Frequencies(nnx.Module):
    """Learned frequencies `freqs[coordinate, block, head, pair]`; exists to carry timm's name `rope.freqs`."""

    def __init__(self, rotary: Rotary, depth: int, heads: int, head_width: int, *, rngs: nnx.Rngs):
        bands = rotary.temperature ** -(jnp.arange(head_width // 4) / (head_width // 4))
        turns = jax.random.uniform(rngs.params(), (depth, heads, 1), maxval=2 * math.pi)
        x, y = ((bands * f(turns), bands * f(turns + math.pi / 2)) for f in (jnp.cos, jnp.sin))
        self.freqs = nnx.Param(jnp.stack([jnp.concatenate(x, axis=-1), jnp.concatenate(y, axis=-1)]))

    def __call__(self, coordinates: Float[np.ndarray, "n 2"]) -> Float[Array, "depth n h d/2"]:
        return jnp.einsum("na,alhp->lnhp", coordinates.astype(np.float32), self.freqs[...], precision="highest")


class RotaryAttention(nnx.Module):
    """Multi-head self-attention over rotated queries and keys.

    `split` has a projection each for queries, keys and values; otherwise there is one. EVA's keys have no bias, for
    softmax does not see it; the fused projection then keeps those of queries and values beside it. `inner_norm`
    normalises what goes into the last projection.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        split: bool,
        qkv_bias: bool,
        key_bias: bool,
        inner_norm: bool,
        halves: bool,
        attention: str,
        epsilon: float,
        dtype,
        rngs: nnx.Rngs,
        last_kernel_init,
    ):
        make = {"dtype": dtype, "rngs": rngs}
        if split:
            self.q_proj = linear(width, width, bias=qkv_bias, **make)
            self.k_proj = linear(width, width, bias=qkv_bias and key_bias, **make)
            self.v_proj = linear(width, width, bias=qkv_bias, **make)
        else:
            self.qkv = linear(width, 3 * width, bias=qkv_bias and key_bias, **make)
            if qkv_bias and not key_bias:
                self.q_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
                self.v_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        if inner_norm:
            self.norm = LayerNorm(width, epsilon=epsilon, **make)
        self.proj = linear(width, width, kernel_init=last_kernel_init, **make)
        self.heads, self.split, self.inner_norm, self.halves = heads, split, inner_norm, halves
        self.attention = attention

    def _project(self, tokens: Float[Array, "b n d"]) -> list[Float[Array, "b n d"]]:
        if self.split:
            return [self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)]
        queries, keys, values = jnp.split(self.qkv(tokens), 3, axis=-1)
        if hasattr(self, "q_bias"):
            queries = queries + self.q_bias[...].astype(queries.dtype)
            values = values + self.v_bias[...].astype(values.dtype)
        return [queries, keys, values]

    def __call__(self, tokens: Float[Array, "b n d"], turn: Turn | None) -> Float[Array, "b n d"]:
        b, n, d = tokens.shape
        queries, keys, values = (x.reshape(b, n, self.heads, d // self.heads) for x in self._project(tokens))
        if turn is not None:
            queries, keys = (rotate(x, turn, halves=self.halves) for x in (queries, keys))
        mixed = attend(queries, keys, values, how=self.attention).reshape(b, n, d)
        return self.proj(self.norm(mixed) if self.inner_norm else mixed)


class SplitSwiGlu(nnx.Module):
    """Gated MLP (Shazeer, arXiv 2002.05202) with a projection each for gate and value, and a norm after their product
    if `inner_norm`."""

    def __init__(
        self, width: int, hidden: int, *, inner_norm: bool, epsilon: float, dtype, rngs: nnx.Rngs, last_kernel_init
    ):
        self.fc1_g = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc1_x = linear(width, hidden, dtype=dtype, rngs=rngs)
        if inner_norm:
            self.norm = LayerNorm(hidden, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.fc2 = linear(hidden, width, dtype=dtype, rngs=rngs, kernel_init=last_kernel_init)
        self.inner_norm = inner_norm

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        hidden = jax.nn.silu(self.fc1_g(tokens)) * self.fc1_x(tokens)
        return self.fc2(self.norm(hidden) if self.inner_norm else hidden)


class BlockSettings(NamedTuple):
    """What the blocks of a model have in common; see `Eva`."""

    mlp_ratio: float
    activation: str
    mlp_norm: bool
    mlp_multiple: int
    split_qkv: bool
    qkv_bias: bool
    key_bias: bool
    attention_norm: bool
    halves: bool
    layer_scale: float
    attention: str


class EvaBlock(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, number: int, width: int, heads: int, settings: BlockSettings, *, epsilon: float, dtype, rngs: nnx.Rngs
    ):
        # The deeper, the smaller, as BEiT starts (Bao et al., arXiv 2106.08254, appendix).
        last = nnx.initializers.truncated_normal(stddev=0.02 / math.sqrt(2 * (number + 1)))
        make = {"dtype": dtype, "rngs": rngs}
        hidden = int(width * settings.mlp_ratio)
        self.norm1 = LayerNorm(width, epsilon=epsilon, **make)
        self.attn = RotaryAttention(
            width,
            heads,
            split=settings.split_qkv,
            qkv_bias=settings.qkv_bias,
            key_bias=settings.key_bias,
            inner_norm=settings.attention_norm,
            halves=settings.halves,
            attention=settings.attention,
            epsilon=epsilon,
            last_kernel_init=last,
            **make,
        )
        self.norm2 = LayerNorm(width, epsilon=epsilon, **make)
        if settings.activation == "split_swiglu":
            hidden += -hidden % settings.mlp_multiple
            inner = {"inner_norm": settings.mlp_norm, "epsilon": epsilon}
            self.mlp = SplitSwiGlu(width, hidden, last_kernel_init=last, **inner, **make)
        elif settings.activation == "swiglu":
            self.mlp = SwiGlu(width, 2 * hidden, last_kernel_init=last, **make)
        else:
            self.mlp = Mlp(width, hidden, activation=settings.activation, last_kernel_init=last, **make)
        self.scaled = bool(settings.layer_scale)
        if self.scaled:
            self.gamma_1 = nnx.Param(jnp.full((width,), settings.layer_scale, jnp.float32))
            self.gamma_2 = nnx.Param(jnp.full((width,), settings.layer_scale, jnp.float32))

    def __call__(
        self, tokens: Float[Array, "b n d"], turn: Turn | None, keep: Float[Array, "2 b"]
    ) -> Float[Array, "b n d"]:
        """`keep` multiplies the two residual branches of each example: 1, or what stochastic depth drew."""
        update = self.attn(self.norm1(tokens), turn)
        update = update * self.gamma_1[...].astype(update.dtype) if self.scaled else update
        tokens = tokens + update * keep[0, :, None, None].astype(update.dtype)
        update = self.mlp(self.norm2(tokens))
        update = update * self.gamma_2[...].astype(update.dtype) if self.scaled else update
        return tokens + update * keep[1, :, None, None].astype(update.dtype)


class Eva(TokenTrunk):
    """EVA classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        image_size: Side in pixels of the square that the table of positions is for, a multiple of `patch_size`.
            Pictures of another size, also oblong ones, have the table resampled for them as they pass.
        patch_size: Side of a patch in pixels.
        width, depth, heads, mlp_ratio: The transformer's shape; `heads` divides `width`, and with rotary positions
            into multiples of 4.
        pool, class_token, registers, embed_prefix, positions, pre_norm, final_norm, fc_norm: As of a
            `VisionTransformer`, but attention pooling looks at all tokens.
        pool_heads, pool_mlp_ratio: Of attention pooling; 0 is as in the blocks.
        activation: Of the MLPs: one of `ACTIVATIONS`; `'swiglu'`, gate and value projected as one; or `'split_swiglu'`,
            each by itself. `mlp_ratio` counts one of them.
        mlp_norm: Normalises within a `'split_swiglu'`.
        mlp_multiple: What a `'split_swiglu'`'s hidden width is rounded up to a multiple of.
        split_qkv: Projects queries, keys and values each by itself.
        qkv_bias: Whether queries and values have biases. key_bias: whether keys have one then.
        attention_norm: Normalises within the attention.
        layer_scale: What the factors `gamma_1`, `gamma_2` of the residual branches start at; 0 has none.
        rotary, rotary_temperature, rotary_side, rotary_offset, rotary_columns_first, rotary_halves: See `Rotary`.
        drop_path: Chance that the last block's residual branches are skipped for an image in training; that of the
            others rises to it linearly.
        norm_epsilon: Of every LayerNorm.
        attention: Of `p10k_jax.models.attention.ATTENTIONS`: how it is computed changes memory and speed alone.
        remat: Of `p10k_jax.models.remat.REMATS`: what is computed again for the gradient; likewise.
        head: What stands on the trunk.
        dtype: What the trunk computes in; angles are float32. Parameters, neck, heads and outputs are float32.

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
        pool: str = "avg",
        pool_heads: int = 0,
        pool_mlp_ratio: float = 0.0,
        class_token: bool = True,
        registers: int = 0,
        embed_prefix: bool = True,
        positions: str = "learned",
        pre_norm: bool = False,
        final_norm: bool = True,
        fc_norm: bool | None = None,
        activation: str = "gelu",
        mlp_norm: bool = False,
        mlp_multiple: int = 1,
        split_qkv: bool = False,
        qkv_bias: bool = True,
        key_bias: bool = False,
        attention_norm: bool = False,
        layer_scale: float = 0.0,
        rotary: str = "none",
        rotary_temperature: float = 10_000.0,
        rotary_side: int = 0,
        rotary_offset: float = 0.0,
        rotary_columns_first: bool = False,
        rotary_halves: bool = False,
        drop_path: float = 0.0,
        norm_epsilon: float = 1e-6,
        attention: str = ATTENTIONS[0],
        remat: str = REMATS[0],
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choice("activation", activation, (*ACTIVATIONS, "swiglu", "split_swiglu"))
        check_choice("attention", attention, ATTENTIONS)
        check_choice("remat", remat, REMATS)
        check_drop_path(drop_path)
        settings = {"epsilon": norm_epsilon, "dtype": dtype, "rngs": rngs}
        self.rotary = Rotary(
            rotary, rotary_temperature, rotary_side, rotary_offset, rotary_columns_first, rotary_halves
        )
        self.head_width, self.drop_path = _head_width(self.rotary, width, heads), drop_path
        self.add_embedding(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            class_token=class_token,
            registers=registers,
            embed_prefix=embed_prefix,
            positions=positions,
            pre_norm=pre_norm,
            token_stddev=0.02,
            **settings,
        )
        if rotary == "learned":
            self.rope = Frequencies(self.rotary, depth, heads, self.head_width, rngs=rngs)
        block = BlockSettings(
            mlp_ratio=mlp_ratio,
            activation=activation,
            mlp_norm=mlp_norm,
            mlp_multiple=mlp_multiple,
            split_qkv=split_qkv,
            qkv_bias=qkv_bias,
            key_bias=key_bias,
            attention_norm=attention_norm,
            halves=rotary_halves,
            layer_scale=layer_scale,
            attention=attention,
        )
        self.blocks = nnx.List([EvaBlock(number, width, heads, block, **settings) for number in range(depth)])
        self.add_pooling(
            pool=pool,
            final_norm=final_norm,
            fc_norm=fc_norm,
            width=width,
            heads=pool_heads or heads,
            mlp_ratio=pool_mlp_ratio or mlp_ratio,
            activation="gelu",
            attend_prefix=True,
            **settings,
        )
        self.add_heads(width, num_classes, head, rngs=rngs)
        self.remat = remat

    def _turns(self, rows: int, columns: int) -> list[Turn | None]:
        """What each block turns the tokens of such a picture by; the prefix's angles are 0: it stays as it is."""
        prefix = [(self.prefix, 0), (0, 0), (0, 0)]
        if self.rotary.name == "none":
            return [None] * len(self.blocks)
        if self.rotary.name == "learned":
            learned = (jnp.pad(angles, prefix) for angles in self.rope(patch_coordinates(self.rotary, rows, columns)))
            return [Turn(jnp.sin(angles), jnp.cos(angles)) for angles in learned]
        angles = np.pad(rotary_angles(self.rotary, self.head_width, rows, columns)[:, None], prefix)
        return [Turn(jnp.asarray(np.sin(angles), jnp.float32), jnp.asarray(np.cos(angles), jnp.float32))] * len(
            self.blocks
        )

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The pooled, normalised tokens; in training `key` draws the stochastic depth."""
        rates = drop_path_rates(self.drop_path, len(self.blocks), train=train, key=key)
        tokens = self.embed(images)
        turns = self._turns(*(side // self.patch_size for side in images.shape[1:3]))
        for number, (block, rate) in enumerate(zip(self.blocks, rates, strict=True)):
            keep = kept_branches(key, number, rate, 2, images.shape[0])
            tokens = run_block(block, tokens, turns[number], keep, remat=self.remat)
        return self.pooled(tokens)


def _head_width(rotary: Rotary, width: int, heads: int) -> int:
    check_choice("rotary", rotary.name, ROTARIES)
    if width % heads:
        raise ValueError(f"width={width} is not a multiple of heads={heads}.")
    if rotary.name != "none" and width // heads % 4:
        raise ValueError(f"Rotary positions need heads of a multiple of 4 channels, not {width} / {heads}.")
    if rotary.name == "learned" and rotary.halves:
        raise ValueError("rotary='learned' turns neighbouring channels: rotary_halves must be False.")
    return width // heads
