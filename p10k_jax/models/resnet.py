"""ResNet (He et al., arXiv 1512.03385; stride in the 3x3 convolution as in torchvision's "v1.5").

Attribute paths are timm's and torchvision's state-dict names (`layer1.0.downsample.0`); see
`p10k_jax.models.state_dict`. Under `jax.jit` on a sharded batch BatchNorm's statistics are those of the **global**
batch: the training result does not depend on the number of devices.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.heads import LINEAR_HEAD, Classifier, HeadSettings


class ResNetShape(NamedTuple):
    """Blocks in each of the four stages, and whether they are bottlenecks."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


# He et al., table 1.
RESNET_SHAPES = {
    "18": ResNetShape((2, 2, 2, 2), bottleneck=False),
    "34": ResNetShape((3, 4, 6, 3), bottleneck=False),
    "50": ResNetShape((3, 4, 6, 3), bottleneck=True),
    "101": ResNetShape((3, 4, 23, 3), bottleneck=True),
    "152": ResNetShape((3, 8, 36, 3), bottleneck=True),
}

_he = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
_zeros = nnx.initializers.zeros_init()


def _convolution(c_in: int, c_out: int, size: int, stride: int = 1, *, dtype, rngs: nnx.Rngs) -> nnx.Conv:
    # torch pads both sides alike; XLA's 'SAME' pads a strided convolution on one side only and shifts the picture.
    padding = [(size // 2, size // 2)] * 2
    kwargs = {"strides": stride, "padding": padding, "use_bias": False, "kernel_init": _he, "dtype": dtype}
    return nnx.Conv(c_in, c_out, (size, size), rngs=rngs, **kwargs)


def _batch_norm(channels: int, *, dtype, rngs: nnx.Rngs, zero: bool = False) -> nnx.BatchNorm:
    # torch's momentum 0.1 weighs the new value, flax's 0.9 the old: the same average. torch divides the running
    # variance by n - 1 and flax by n, the number of values a channel has in the batch: 12,544 or more at 224 pixels and
    # batch 256.
    scale_init = _zeros if zero else nnx.initializers.ones_init()
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, scale_init=scale_init, dtype=dtype, rngs=rngs)


class Block(nnx.Module):
    """Residual block: two 3x3 convolutions, or 1x1 - 3x3 - 1x1 with four times the channels out (bottleneck).

    The last norm's scale starts at zero, so that each block starts as the identity (Goyal et al., arXiv 1706.02677).
    """

    def __init__(self, c_in: int, channels: int, stride: int, bottleneck: bool, *, dtype, rngs: nnx.Rngs):
        make = {"dtype": dtype, "rngs": rngs}
        c_out = channels * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = _convolution(c_in, channels, 1, **make)
            self.bn1 = _batch_norm(channels, **make)
            self.conv2 = _convolution(channels, channels, 3, stride, **make)
            self.bn2 = _batch_norm(channels, **make)
            self.conv3 = _convolution(channels, c_out, 1, **make)
            self.bn3 = _batch_norm(c_out, zero=True, **make)
        else:
            self.conv1 = _convolution(c_in, channels, 3, stride, **make)
            self.bn1 = _batch_norm(channels, **make)
            self.conv2 = _convolution(channels, c_out, 3, **make)
            self.bn2 = _batch_norm(c_out, zero=True, **make)
        self.bottleneck = bottleneck
        self.shortcut = "projection" if stride != 1 or c_in != c_out else "identity"
        if self.shortcut == "projection":
            projection = _convolution(c_in, c_out, 1, stride, **make)
            self.downsample = nnx.List([projection, _batch_norm(c_out, **make)])

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        shortcut = x
        if self.shortcut == "projection":
            convolution, norm = self.downsample
            shortcut = norm(convolution(x), use_running_average=not train)
        x = nnx.relu(self.bn1(self.conv1(x), use_running_average=not train))
        x = self.bn2(self.conv2(x), use_running_average=not train)
        if self.bottleneck:
            x = self.bn3(self.conv3(nnx.relu(x)), use_running_average=not train)
        return nnx.relu(x + shortcut)


class ResNet(Classifier):
    """ResNet classifier.

    Args:
        num_classes: Width of the head; 0 makes none: the model then gives the embedding.
        blocks: Number of blocks in each of the four stages.
        bottleneck: Bottleneck blocks (50 layers and more) or basic ones (18, 34).
        head: What stands on the trunk.
        dtype: What the trunk computes in. Parameters, batch statistics, neck, heads and outputs are float32.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        blocks: tuple[int, int, int, int],
        bottleneck: bool,
        head: HeadSettings = LINEAR_HEAD,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        make = {"dtype": dtype, "rngs": rngs}
        self.conv1 = _convolution(3, 64, 7, 2, **make)
        self.bn1 = _batch_norm(64, **make)
        c_in = 64
        for stage, count in enumerate(blocks):
            channels = 64 * 2**stage
            layer = []
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                layer.append(Block(c_in, channels, stride, bottleneck, **make))
                c_in = channels * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nnx.List(layer))
        self.add_heads(c_in, num_classes, head, path="fc", rngs=rngs)
        self.dtype = dtype

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The spatially averaged features."""
        del key  # nothing is left to chance
        x = self.conv1(images.astype(self.dtype))
        x = nnx.relu(self.bn1(x, use_running_average=not train))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                x = block(x, train=train)
        return x.mean(axis=(1, 2))
