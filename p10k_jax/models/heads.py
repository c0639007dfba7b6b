"""What stands on a trunk: a neck that makes the embedding, the classifier, and a second classifier of groups.

Attribute paths of a plain linear head are timm's (`head`, `fc` or `head.fc`); a neck and a group head are this
package's own and stand beside it as `neck` and `group_head`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from p10k_jax.models.layers import BatchNorm

# First words of the paths that no trunk has: a public checkpoint never fills the last two, and another number of
# classes makes the first two anew.
HEAD_PARTS = ("head", "fc", "neck", "group_head")
# Found in the dotted paths of what makes logits out of embeddings, whatever the trunk; classes are its last axis.
CLASSIFIER = r"(^|\.)(head|fc)\.(kernel|bias)$"

_zeros = nnx.initializers.zeros_init()


class HeadSettings(NamedTuple):
    """What stands on the trunk.

    Attributes:
        name: `'linear'`; or `'cosine'`: logits are `scale` times the cosine between embedding and class weight, which
            the margins of `p10k_jax.training.losses` want (Wang et al., arXiv 1801.09414; Deng et al., arXiv
            1801.07698).
        embedding_size: Width of a dense layer before the classifier; 0 has none.
        bnneck: BatchNorm without shift between that and the classifier (Luo et al., arXiv 1903.07071).
        subcentres: Weights a class of a cosine head, of which the nearest counts (Deng et al., "Sub-center ArcFace",
            ECCV 2020).
        scale: Of the cosines.
        bias_start: What every bias of a linear classifier starts at; for a sigmoid loss about -log(classes).
        num_groups: Classes of the group head; 0 has none.
        padded_classes: Width of the classifier where it is more than its classes (`p10k_jax.models.padding`); 0: as
            many.
    """

    name: str = "linear"
    embedding_size: int = 0
    bnneck: bool = False
    subcentres: int = 1
    scale: float = 30.0
    bias_start: float = 0.0
    num_groups: int = 0
    padded_classes: int = 0


LINEAR_HEAD = HeadSettings()


class Outputs(NamedTuple):
    """What a model says of a batch, in float32.

    Attributes:
        logits: [b, c]; of a model without classes the embedding. Where the classifier is padded, c is its width, and
            the logits beyond the classes are minus infinity.
        embedding: [b, d], what the classifier sees: pooled, and through the neck.
        group_logits: [b, g], None without a group head.
    """

    logits: Float[Array, "b c"]
    embedding: Float[Array, "b d"]
    group_logits: Float[Array, "b g"] | None = None


def check_head(head: HeadSettings) -> None:
    """Raises ValueError for an unknown name or a value out of range."""
    if head.name not in HEADS:
        raise ValueError(f"head.name={head.name!r} is unknown; known: {', '.join(HEADS)}.")
    if min(head.embedding_size, head.num_groups, head.padded_classes) < 0 or head.subcentres < 1 or not head.scale > 0:
        raise ValueError(f"{head}: sizes and numbers are at least 0, subcentres at least 1, scale above 0.")
    if head.bias_start and head.name != "linear":
        raise ValueError(
            f"head.bias_start={head.bias_start} is for head.name='linear'; a {head.name} head has no bias."
        )
    if head.subcentres > 1 and head.name != "cosine":
        raise ValueError(f"head.subcentres={head.subcentres} is for head.name='cosine', not {head.name!r}.")


def _dense(
    features_in: int, features_out: int, rngs: nnx.Rngs, *, kernel_init=_zeros, bias_start: float = 0.0, **more
) -> nnx.Linear:
    # In float32: among thousands of look-alike classes bfloat16's eight bits make ties of one image in twenty.
    bias_init = nnx.initializers.constant(bias_start)
    settings = {"kernel_init": kernel_init, "bias_init": bias_init, "dtype": jnp.float32} | more
    return nnx.Linear(features_in, features_out, rngs=rngs, **settings)


class Neck(nnx.Module):
    """A dense layer, a BatchNorm, or both."""

    def __init__(self, width: int, embedding_size: int, bnneck: bool, *, rngs: nnx.Rngs):
        self.projects, self.normalises = embedding_size > 0, bnneck
        if self.projects:
            start = nnx.initializers.lecun_normal()
            # A norm takes away what a bias adds.
            self.embedding = _dense(width, embedding_size, rngs, kernel_init=start, use_bias=not bnneck)
        if self.normalises:
            size = embedding_size or width
            self.norm = BatchNorm(size, dtype=jnp.float32, bias=False)

    def __call__(self, features: Float[Array, "b w"], *, train: bool) -> Float[Array, "b d"]:
        if self.projects:
            features = self.embedding(features)
        return self.norm(features, use_running_average=not train) if self.normalises else features


class PointwiseLinear(nnx.Module):
    """A dense layer whose kernel `[1, 1, d, c]` has the shape of a 1x1 convolution's, as timm's ResNetV2 stores it."""

    def __init__(self, features_in: int, features_out: int, *, bias_start: float, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_zeros(rngs.params(), (1, 1, features_in, features_out), jnp.float32))
        self.bias = nnx.Param(jnp.full((features_out,), bias_start, jnp.float32))

    def __call__(self, features: Float[Array, "b d"]) -> Float[Array, "b c"]:
        return features @ self.kernel[0, 0] + self.bias[...]


class CosineHead(nnx.Module):
    """Scaled cosines between an embedding and the weights of each class, the nearest sub-centre counting."""

    def __init__(self, width: int, num_classes: int, *, subcentres: int, scale: float, rngs: nnx.Rngs):
        start = nnx.initializers.normal(stddev=width**-0.5)
        # Drawn a class after the other: padding at the end changes no other's.
        self.kernel = nnx.Param(start(rngs.params(), (num_classes * subcentres, width), jnp.float32).T)
        self.subcentres, self.scale = subcentres, scale

    def __call__(self, embedding: Float[Array, "b d"]) -> Float[Array, "b c"]:
        cosines = unit(embedding) @ unit(self.kernel[...], axis=0)
        return self.scale * cosines.reshape(embedding.shape[0], -1, self.subcentres).max(axis=-1)


def unit(vectors: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Vectors of length one along `axis`; zero stays zero, with a finite gradient."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.square(vectors).sum(axis=axis, keepdims=True), 1e-12))


def _linear(width: int, num_classes: int, head: HeadSettings, rngs: nnx.Rngs) -> nnx.Module:
    return _dense(width, num_classes, rngs, bias_start=head.bias_start)


def _cosine(width: int, num_classes: int, head: HeadSettings, rngs: nnx.Rngs) -> nnx.Module:
    return CosineHead(width, num_classes, subcentres=head.subcentres, scale=head.scale, rngs=rngs)


# Name -> (width, num_classes, settings, rngs) to the module that makes logits [b, c] of embeddings [b, width].
HEADS: dict[str, Callable[[int, int, HeadSettings, nnx.Rngs], nnx.Module]] = {"linear": _linear, "cosine": _cosine}


def _blank_beyond(num_classes: int, padded: int, classifier: nnx.Module) -> None:
    """Zeros the columns that belong to no class, so that norms of the whole kernel are those of its classes."""
    for name in ("kernel", "bias") if padded > num_classes else ():
        if (leaf := getattr(classifier, name, None)) is not None:
            columns = leaf.shape[-1]
            leaf[...] = jnp.where(jnp.arange(columns) < columns // padded * num_classes, leaf[...], 0)


class _Holder(nnx.Module):
    """A module with one attribute, for a path of two words."""

    def __init__(self, name: str, module: nnx.Module):
        setattr(self, name, module)


class Classifier(nnx.Module):
    """A trunk with what stands on it. A trunk derives from this, gives `features`, and calls `add_heads` at the end of
    its constructor."""

    def add_heads(
        self, width: int, num_classes: int, head: HeadSettings, *, path: str = "head", rngs: nnx.Rngs
    ) -> None:
        """Makes neck and heads.

        Args:
            width: Of `features`.
            num_classes: 0 makes no classifier.
            head: What to make. A linear head's weights start at zero: the first softmax loss is exactly log(classes).
            path: Where timm has the classifier: `'head'`, `'fc'`, or `'head.fc'` with a 1x1 convolution's kernel.

        Raises:
            ValueError: settings out of range.
        """
        check_head(head)
        padded = head.padded_classes or num_classes
        if padded < num_classes:
            raise ValueError(f"head.padded_classes={padded} is less than the {num_classes} classes.")
        self.is_padded = padded > num_classes
        self.has_neck, self.num_classes, self.num_groups = head.embedding_size > 0 or head.bnneck, num_classes, 0
        if self.has_neck:
            self.neck = Neck(width, head.embedding_size, head.bnneck, rngs=rngs)
        width = head.embedding_size or width
        self.head_path = path.split(".")
        if num_classes:
            if head.name == "linear" and len(self.head_path) > 1:
                made = PointwiseLinear(width, padded, bias_start=head.bias_start, rngs=rngs)
            else:
                made = HEADS[head.name](width, padded, head, rngs)
            _blank_beyond(num_classes, padded, made)
            for name in reversed(self.head_path[1:]):
                made = _Holder(name, made)
            setattr(self, self.head_path[0], made)
        if head.num_groups:
            self.num_groups = head.num_groups
            self.group_head = _dense(width, head.num_groups, rngs)

    def features(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b d"]:
        """The trunk's pooled features."""
        raise AttributeError(f"{type(self).__name__} has no features.")

    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> Outputs:
        """Normalised images to outputs.

        With `train`, BatchNorms take the batch's statistics and remember them, and `key` draws what a model leaves to
        chance.
        """
        embedding = self.features(images, train=train, key=key).astype(jnp.float32)
        if self.has_neck:
            embedding = self.neck(embedding, train=train)
        logits = self.classify(embedding)
        return Outputs(logits, embedding, self.group_head(embedding) if self.num_groups else None)

    def classify(self, embedding: Float[Array, "b d"]) -> Float[Array, "b c"]:
        """The logits of embeddings, as `Outputs` pairs them; of a model without classes the embeddings."""
        if not self.num_classes:
            return embedding
        head = self
        for name in self.head_path:
            head = getattr(head, name)
        logits = head(embedding)
        return jnp.where(jnp.arange(logits.shape[1]) < self.num_classes, logits, -jnp.inf) if self.is_padded else logits
