"""ResNet (He et al., arXiv 1512.03385; stride in the 3x3 convolution as in torchvision's "v1.5") and what stands close
to it: ResNet-C, -D (He et al., arXiv 1812.01187), -S and -T, ResNeXt (Xie et al., arXiv 1611.05431), Wide ResNet
(Zagoruyko & Komodakis, arXiv 1605.07146), SE-ResNet (Hu et al., arXiv 1709.01507), ResNet-RS (Bello et al., arXiv
2103.07579).

Attribute paths are timm's and torchvision's state-dict names (`layer1.0.downsample.0`); see
`p10k_jax.weights.state_dict`. Under `jax.jit` on a sharded batch BatchNorm's statistics are those of the **global**
batch, or of `ghost_batch` images of it: the training result does not depend on the number of devices.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.heads import LINEAR_HEAD, Classifier, HeadSettings
from p10k_jax.models.layers import BatchNorm, GemPool, check_choice, check_drop_path, drop_path_rates, kept_branches
from p10k_jax.models.remat import REMATS, run_block


class ResNetShape(NamedTuple):
    """Blocks in each of the four stages, and whether they are bottlenecks."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


# He et al., table 1; the others are timm's.
RESNET_SHAPES = {
    "10": ResNetShape((1, 1, 1, 1), bottleneck=False),
    "14": ResNetShape((1, 1, 1, 1), bottleneck=True),
    "18": ResNetShape((2, 2, 2, 2), bottleneck=False),
    "26": ResNetShape((2, 2, 2, 2), bottleneck=True),
    "34": ResNetShape((3, 4, 6, 3), bottleneck=False),
    "50": ResNetShape((3, 4, 6, 3), bottleneck=True),
    "101": ResNetShape((3, 4, 23, 3), bottleneck=True),
    "152": ResNetShape((3, 8, 36, 3), bottleneck=True),
    "200": ResNetShape((3, 24, 36, 3), bottleneck=True),
    "201": ResNetShape((3, 24, 36, 4), bottleneck=True),
    "269": ResNetShape((3, 30, 48, 8), bottleneck=True),
    "270": ResNetShape((4, 29, 53, 4), bottleneck=True),
    "350": ResNetShape((4, 36, 72, 4), bottleneck=True),
    "420": ResNetShape((4, 44, 87, 4), bottleneck=True),
}
STEMS = ("plain", "deep", "tiered")
STEM_POOLS = ("max", "convolution")
POOLS = ("avg", "gem")

he_init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def _convolution(
    c_in: int, c_out: int, size: int, stride: int = 1, *, groups: int = 1, dtype, rngs: nnx.Rngs
) -> nnx.Conv:
    # torch pads both sides alike; XLA's 'SAME' pads a strided convolution on one side only and shifts the picture.
    padding = [(size // 2, size // 2)] * 2
    kwargs = {"strides": stride, "padding": padding, "use_bias": False, "kernel_init": he_init, "dtype": dtype}
    return nnx.Conv(c_in, c_out, (size, size), feature_group_count=groups, rngs=rngs, **kwargs)


def _halved(x: Float[Array, "b h w c"], *, cover: bool) -> Float[Array, "b h2 w2 c"]:
    """Means of 2x2 values. Where a side is odd, `cover` makes a last mean of the rest; otherwise that is cut off."""
    rest = [(0, side % 2 if cover else 0) for side in x.shape[1:3]]
    return nnx.avg_pool(x, (2, 2), strides=(2, 2), padding=rest, count_include_pad=False).astype(x.dtype)


class Nameless(nnx.Module):
    """Takes a number in a sequence, as torch counts what has no parameters."""


class SqueezeExcitation(nnx.Module):
    """Channels weighted by what an MLP makes of their means (Hu et al., arXiv 1709.01507); the kernels are those of
    1x1 convolutions."""

    def __init__(self, channels: int, ratio: float, *, dtype, rngs: nnx.Rngs):
        hidden = max(8, int(channels * ratio + 4) // 8 * 8)
        settings = {"kernel_init": he_init, "dtype": dtype, "rngs": rngs}
        self.fc1 = nnx.Conv(channels, hidden, (1, 1), **settings)
        self.fc2 = nnx.Conv(hidden, channels, (1, 1), **settings)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        means = x.mean(axis=(1, 2), keepdims=True)
        return x * nnx.sigmoid(self.fc2(nnx.relu(self.fc1(means))))


class BlockSettings(NamedTuple):
    """What the blocks of a model have in common; see `ResNet`."""

    bottleneck: bool
    groups: int
    group_width: int
    squeeze: float
    average_shortcut: bool
    antialias: bool
    ghost_batch: int


class Block(nnx.Module):
    """Residual block: two 3x3 convolutions, or 1x1 - 3x3 - 1x1 with four times the channels out (bottleneck).

    The last norm's scale starts at zero, so that each block starts as the identity (Goyal et al., arXiv 1706.02677).
    """

    def __init__(self, c_in: int, channels: int, stride: int, settings: BlockSettings, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        norm = functools.partial(BatchNorm, dtype=dtype, ghost_batch=settings.ghost_batch)
        c_out = channels * (4 if settings.bottleneck else 1)
        self.antialias = settings.antialias and stride == 2
        own_stride = 1 if self.antialias else stride
        if settings.bottleneck:
            width = int(channels * settings.group_width / 64) * settings.groups
            self.conv1 = _convolution(c_in, width, 1, **make)
            self.bn1 = norm(width)
            self.conv2 = _convolution(width, width, 3, own_stride, groups=settings.groups, **make)
            self.bn2 = norm(width)
            self.conv3 = _convolution(width, c_out, 1, **make)
            self.bn3 = norm(c_out, zero=True)
        else:
            self.conv1 = _convolution(c_in, channels, 3, own_stride, **make)
            self.bn1 = norm(channels)
            self.conv2 = _convolution(channels, c_out, 3, **make)
            self.bn2 = norm(c_out, zero=True)
        self.bottleneck, self.squeezes = settings.bottleneck, settings.squeeze > 0
        if self.squeezes:
            self.se = SqueezeExcitation(c_out, settings.squeeze, **make)
        self.shortcut = "projection" if stride != 1 or c_in != c_out else "identity"
        self.halves_shortcut = settings.average_shortcut and stride == 2
        if self.shortcut == "projection":
            pooling = [Nameless()] if settings.average_shortcut else []
            projection = _convolution(c_in, c_out, 1, 1 if pooling else stride, **make)
            self.downsample = nnx.List([*pooling, projection, norm(c_out)])

    def __call__(
        self, x: Float[Array, "b h w c"], keep: Float[Array, " b"], *, train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        """`keep` multiplies the residual branch of each example: 1, or what stochastic depth drew."""
        shortcut = x
        if self.shortcut == "projection":
            *_, convolution, norm = self.downsample
            shortcut = convolution(_halved(x, cover=True) if self.halves_shortcut else x)
            shortcut = norm(shortcut, use_running_average=not train)
        x = nnx.relu(self.bn1(self.conv1(x), use_running_average=not train))
        if self.antialias and not self.bottleneck:
            x = _halved(x, cover=False)
        x = self.bn2(self.conv2(x), use_running_average=not train)
        if self.bottleneck:
            x = nnx.relu(x)
            x = _halved(x, cover=False) if self.antialias else x
            x = self.bn3(self.conv3(x), use_running_average=not train)
        if self.squeezes:
            x = self.se(x)
        return nnx.relu(x * keep[:, None, None, None].astype(x.dtype) + shortcut)


class ResNet(Classifier):
    """ResNet classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        blocks: Number of blocks in each of the four stages.
        bottleneck: Bottleneck blocks (50 layers and more) or basic ones (18, 34).
        widths: Channels of each stage's 3x3 convolutions; a bottleneck's output has four times as many.
        stem: `'plain'`, a 7x7 convolution; `'deep'`, three 3x3 ones (ResNet-C, -D); `'tiered'`, three that widen
            (ResNet-T).
        stem_width: Of a stem of three: its second convolution's channels; the third has twice as many.
        stem_pool: What halves the stem's output: `'max'`, or a strided `'convolution'` (ResNet-RS).
        average_shortcut: Shortcuts halve by averaging instead of by a strided convolution (ResNet-D).
        antialias: 3x3 convolutions halve by averaging what they make without a stride, and the stem by averaging.
        groups, group_width: A bottleneck's 3x3 convolution has `groups` groups of `group_width` channels in the first
            stage (ResNeXt: 32 of 4; Wide ResNet: 1 of 128).
        squeeze: Squeeze-and-excitation's hidden width over its channels; 0 has none.
        pool: `'avg'` or `'gem'`, the generalised mean.
        drop_path: Chance that the last block's residual branch is skipped for an image in training; that of the others
            rises to it linearly (stochastic depth; Huang et al., arXiv 1603.09382).
        ghost_batch: Every so many images in a row have BatchNorm statistics of their own (Hoffer et al., arXiv
            1705.08741; Goyal et al., arXiv 1706.02677, take 32). Where it divides what a device has of a batch, devices
            exchange none. 0: those of the whole batch.
        frozen_norms: Every BatchNorm keeps its remembered statistics in training too, as a frozen trunk wants it.
        remat: Of `p10k_jax.models.remat.REMATS`: what is computed again for the gradient; it
            changes memory and speed alone.
        head: What stands on the trunk.
        dtype: What the trunk computes in. Parameters, batch statistics, neck, heads and outputs are float32.

    Raises:
        ValueError: an unknown name, or settings that exclude each other.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        blocks: tuple[int, int, int, int],
        bottleneck: bool,
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        stem: str = "plain",
        stem_width: int = 32,
        stem_pool: str = "max",
        average_shortcut: bool = False,
        antialias: bool = False,
        groups: int = 1,
        group_width: int = 64,
        squeeze: float = 0.0,
        pool: str = "avg",
        drop_path: float = 0.0,
        ghost_batch: int = 0,
        frozen_norms: bool = False,
        remat: str = REMATS[0],
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(stem=stem, stem_pool=stem_pool, pool=pool, antialias=antialias, blocks=blocks, widths=widths)
        if ghost_batch < 0:
            raise ValueError(f"ghost_batch={ghost_batch}: give a number of images, or 0 for the whole batch.")
        check_drop_path(drop_path)
        check_choice("remat", remat, REMATS)
        if not bottleneck and (groups, group_width) != (1, 64):
            raise ValueError(f"groups={groups}, group_width={group_width}: basic blocks have no groups.")
        make = {"dtype": dtype, "rngs": rngs}
        norm = functools.partial(BatchNorm, dtype=dtype, ghost_batch=ghost_batch)
        c_in = self._add_stem(stem, stem_width, norm, **make)
        if stem_pool == "convolution":
            self.maxpool = nnx.List([_convolution(c_in, c_in, 3, 2, **make), norm(c_in)])
        settings = BlockSettings(bottleneck, groups, group_width, squeeze, average_shortcut, antialias, ghost_batch)
        for stage, (count, channels) in enumerate(zip(blocks, widths, strict=True)):
            layer = []
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(Block(c_in, channels, stride, settings, **make))
                c_in = channels * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nnx.List(layer))
        if pool == "gem":
            self.gem_pool = GemPool()
        self.add_heads(c_in, num_classes, head, path="fc", rngs=rngs)
        self.stem_pool = "average" if antialias else stem_pool
        self.pool, self.drop_path, self.frozen_norms, self.dtype = pool, drop_path, frozen_norms, dtype
        self.remat = remat

    def _add_stem(self, stem: str, width: int, norm: Callable[[int], BatchNorm], *, dtype, rngs: nnx.Rngs) -> int:
        """Makes `conv1` and `bn1`; gives their number of channels."""
        make = {"dtype": dtype, "rngs": rngs}
        if stem == "plain":
            self.conv1 = _convolution(3, 64, 7, 2, **make)
            self.bn1 = norm(64)
            return 64
        first = 3 * (width // 4) if stem == "tiered" else width
        self.conv1 = nnx.List(
            [
                _convolution(3, first, 3, 2, **make),
                norm(first),
                Nameless(),
                _convolution(first, width, 3, **make),
                norm(width),
                Nameless(),
                _convolution(width, 2 * width, 3, **make),
            ]
        )
        self.bn1 = norm(2 * width)
        return 2 * width

    def _stem(self, x: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b h4 w4 c"]:
        """A quarter of the picture's height and width."""
        if isinstance(self.conv1, nnx.Conv):
            x = self.conv1(x)
        else:
            first, norm1, _, second, norm2, _, third = self.conv1
            x = nnx.relu(norm1(first(x), use_running_average=not train))
            x = third(nnx.relu(norm2(second(x), use_running_average=not train)))
        x = nnx.relu(self.bn1(x, use_running_average=not train))
        if self.stem_pool == "average":
            return _halved(x, cover=False)
        if self.stem_pool == "convolution":
            convolution, norm = self.maxpool
            return nnx.relu(norm(convolution(x), use_running_average=not train))
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The spatially pooled features; in training `key` draws the stochastic depth."""
        blocks = [block for layer in (self.layer1, self.layer2, self.layer3, self.layer4) for block in layer]
        rates = drop_path_rates(self.drop_path, len(blocks), train=train, key=key)
        train = train and not self.frozen_norms
        x = self._stem(images.astype(self.dtype), train=train)
        for number, (block, rate) in enumerate(zip(blocks, rates, strict=True)):
            keep = kept_branches(key, number, rate, 1, images.shape[0])[0]
            x = run_block(block, x, keep, remat=self.remat, train=train)
        return pool_pixels(x, self.gem_pool if self.pool == "gem" else None)


def pool_pixels(x: Float[Array, "b h w c"], gem: GemPool | None) -> Float[Array, "b c"]:
    """The mean of all pixels, or their generalised mean."""
    return x.mean(axis=(1, 2)) if gem is None else gem(x.reshape(x.shape[0], -1, x.shape[-1]))


def _check(*, stem: str, stem_pool: str, pool: str, antialias: bool, blocks: tuple, widths: tuple) -> None:
    check_choice("stem", stem, STEMS)
    check_choice("stem_pool", stem_pool, STEM_POOLS)
    check_choice("pool", pool, POOLS)
    if antialias and stem_pool != "max":
        raise ValueError(f"stem_pool={stem_pool!r} and antialias exclude each other.")
    if len(blocks) != 4 or len(widths) != 4:
        raise ValueError(f"blocks={blocks}, widths={widths}: give four stages.")
