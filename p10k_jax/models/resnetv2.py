"""ResNet-v2 as Big Transfer has it (BiT; Kolesnikov et al., arXiv 1912.11370): pre-activation (He et al., arXiv
1603.05027), GroupNorm (Wu & He, arXiv 1803.08494), weight-standardised convolutions (Qiao et al., arXiv 1903.10520).

Attribute paths are those of timm's `resnetv2.py` (`stages.0.blocks.0.norm1`). No statistics are kept: a result depends
neither on the batch nor on the number of devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.heads import LINEAR_HEAD, Classifier, HeadSettings
from p10k_jax.models.layers import GemPool, check_choice, check_drop_path, drop_path_rates, kept_branches
from p10k_jax.models.remat import REMATS, run_block
from p10k_jax.models.resnet import POOLS, he_init, pool_pixels


class BiTShape(NamedTuple):
    """Blocks in each stage, and how many times as wide as a ResNet's they are."""

    blocks: tuple[int, ...]
    width_factor: int


# Kolesnikov et al., section 3.2; 152x2 is of Beyer et al., arXiv 2106.05237.
BIT_SHAPES = {
    "50x1": BiTShape((3, 4, 6, 3), 1),
    "50x3": BiTShape((3, 4, 6, 3), 3),
    "101x1": BiTShape((3, 4, 23, 3), 1),
    "101x3": BiTShape((3, 4, 23, 3), 3),
    "152x2": BiTShape((3, 8, 36, 3), 2),
    "152x4": BiTShape((3, 8, 36, 3), 4),
}
GROUPS = 32


class StandardisedConv(nnx.Module):
    """A convolution whose kernel is used with mean 0 and variance 1 over what makes each channel.

    The standardisation is in float32; padding is alike on both sides, as torch's.
    """

    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1, *, dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(he_init(rngs.params(), (size, size, c_in, c_out), jnp.float32))
        self.size, self.stride, self.dtype = size, stride, dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        kernel = self.kernel[...]
        kernel = kernel - kernel.mean(axis=(0, 1, 2))
        kernel = kernel * jax.lax.rsqrt(jnp.square(kernel).mean(axis=(0, 1, 2)) + 1e-8)
        return jax.lax.conv_general_dilated(
            x,
            kernel.astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=[(self.size // 2, self.size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def _group_norm(channels: int, *, dtype, rngs: nnx.Rngs) -> nnx.GroupNorm:
    return nnx.GroupNorm(channels, num_groups=GROUPS, epsilon=1e-5, dtype=dtype, rngs=rngs)


class Projection(nnx.Module):
    """A convolution under the name `conv`: the stem's, or a shortcut's."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int, *, dtype, rngs: nnx.Rngs):
        self.conv = StandardisedConv(c_in, c_out, size, stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        return self.conv(x)


class PreActivationBlock(nnx.Module):
    """Bottleneck whose norms and activations come before its convolutions; the first of a stage projects its
    shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, first: bool, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        width = c_out // 4
        if first:
            self.downsample = Projection(c_in, c_out, 1, stride, **make)
        self.norm1 = _group_norm(c_in, **make)
        self.conv1 = StandardisedConv(c_in, width, 1, **make)
        self.norm2 = _group_norm(width, **make)
        self.conv2 = StandardisedConv(width, width, 3, stride, **make)
        self.norm3 = _group_norm(width, **make)
        self.conv3 = StandardisedConv(width, c_out, 1, **make)
        self.first = first

    def __call__(self, x: Float[Array, "b h w c"], keep: Float[Array, " b"]) -> Float[Array, "b h2 w2 c2"]:
        """`keep` multiplies the residual branch of each example: 1, or what stochastic depth drew."""
        active = nnx.relu(self.norm1(x))
        shortcut = self.downsample(active) if self.first else x
        update = self.conv1(active)
        update = self.conv2(nnx.relu(self.norm2(update)))
        update = self.conv3(nnx.relu(self.norm3(update)))
        return shortcut + update * keep[:, None, None, None].astype(update.dtype)


class Stage(nnx.Module):
    """Blocks of one width; exists to carry timm's name `stages.0.blocks`."""

    def __init__(self, c_in: int, c_out: int, blocks: int, stride: int, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        later = (PreActivationBlock(c_out, c_out, 1, first=False, **make) for _ in range(blocks - 1))
        self.blocks = nnx.List([PreActivationBlock(c_in, c_out, stride, first=True, **make), *later])


class ResNetV2(Classifier):
    """BiT classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        blocks: Number of blocks in each stage, at least 1.
        width_factor: What multiplies all widths.
        widths: Channels that come out of each stage, and `stem_width` of the stem, before that: with the factor
            multiples of 128, and of 32.
        pool: `'avg'` or `'gem'`, the generalised mean.
        drop_path: Chance that the last block's residual branch is skipped for an image in training; that of the others
            rises to it linearly (stochastic depth; Huang et al., arXiv 1603.09382).
        remat: Of `p10k_jax.models.remat.REMATS`: what is computed again for the gradient; it
            changes memory and speed alone.
        head: What stands on the trunk.
        dtype: What the trunk computes in; norms' statistics and the standardisation of kernels are float32. Parameters,
            neck, heads and outputs are float32.

    Raises:
        ValueError: an unknown name, or widths that do not divide.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        blocks: tuple[int, ...],
        width_factor: int = 1,
        widths: tuple[int, ...] = (256, 512, 1024, 2048),
        stem_width: int = 64,
        pool: str = "avg",
        drop_path: float = 0.0,
        remat: str = REMATS[0],
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choice("pool", pool, POOLS)
        check_drop_path(drop_path)
        check_choice("remat", remat, REMATS)
        c_in, outputs = stem_width * width_factor, [width * width_factor for width in widths]
        if len(blocks) != len(widths) or min(blocks) < 1:
            raise ValueError(f"blocks={blocks} and widths={widths} are of different length, or a stage is empty.")
        if c_in % GROUPS or any(width % (4 * GROUPS) for width in outputs):
            raise ValueError(
                f"widths={widths}, stem_width={stem_width} times {width_factor}: {GROUPS} groups want multiples of "
                f"{4 * GROUPS}, and of {GROUPS} for the stem."
            )
        make = {"dtype": dtype, "rngs": rngs}
        self.stem = Projection(3, c_in, 7, 2, **make)
        stages = []
        for number, (count, width) in enumerate(zip(blocks, outputs, strict=True)):
            stages.append(Stage(c_in, width, count, 1 if number == 0 else 2, **make))
            c_in = width
        self.stages = nnx.List(stages)
        self.norm = _group_norm(c_in, **make)
        if pool == "gem":
            self.gem_pool = GemPool()
        self.add_heads(c_in, num_classes, head, path="head.fc", rngs=rngs)
        self.pool, self.drop_path, self.remat, self.dtype = pool, drop_path, remat, dtype

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The spatially pooled features; in training `key` draws the stochastic depth."""
        blocks = [block for stage in self.stages for block in stage.blocks]
        rates = drop_path_rates(self.drop_path, len(blocks), train=train, key=key)
        x = self.stem(images.astype(self.dtype))
        # A border of zeros, not of minus infinity: it counts in the maximum.
        x = nnx.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2))
        for number, (block, rate) in enumerate(zip(blocks, rates, strict=True)):
            keep = kept_branches(key, number, rate, 1, images.shape[0])[0]
            x = run_block(block, x, keep, remat=self.remat)
        return pool_pixels(nnx.relu(self.norm(x)), self.gem_pool if self.pool == "gem" else None)
