"""Models by name: ours, `vit-Ti/16`, `resnet-50`, `bit-50x1`, and timm's, `vit_small_patch14_dinov2`, `resnet50`."""

import difflib
import inspect
import re
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from p10k_jax.models.functional import Model, functional
from p10k_jax.models.heads import LINEAR_HEAD, Classifier, HeadSettings
from p10k_jax.models.resnetv2 import BIT_SHAPES, ResNetV2
from p10k_jax.models.timm_names import FAMILIES, RESNETS, TIMM_NAMES, expand
from p10k_jax.models.vit import VIT_SHAPES, VisionTransformer

# Models that timm has none of: name -> the module, and those of its settings that are not its defaults.
OTHERS: dict[str, tuple[type[Classifier], dict[str, Any]]] = {}

_VIT_NAME = re.compile(r"vit-(?P<size>[A-Za-z0-9]+)/(?P<patch>[1-9][0-9]*)")


def known_names() -> tuple[str, ...]:
    """Every model name `create` takes, a family after the other, ours first.

    `{patch}` stands for any patch size in pixels, other braces for one of what they list: `resnet{-,}{18,34}` are
    `resnet-18`, `resnet-34`, `resnet18` and `resnet34`. A name of timm's may have a tag after a dot, which changes
    nothing: `resnet50.a1_in1k`.
    """
    ours = [f"vit-{size}/{{patch}}" for size in VIT_SHAPES] + [f"bit-{{{','.join(BIT_SHAPES)}}}"]
    rows = [row for _, rows, _ in FAMILIES for row in rows]
    return (*ours, *OTHERS, *(_hyphenated(row.pattern, "{-,}") if row in RESNETS else row.pattern for row in rows))


def create(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    head: HeadSettings = LINEAR_HEAD,
    dtype: jnp.dtype = jnp.float32,
    **options,
) -> Model:
    """The model of that name as pure functions.

    Args:
        name: One of `known_names()`, for example `vit-S/16` or `resnet-50`.
        num_classes: Number of classes; 0 gives the embedding instead of logits.
        image_size: Side of the square input in pixels.
        head: What stands on the trunk: linear or cosine, with or without a neck and a group head.
        dtype: What the trunk computes in; parameters and outputs are float32.
        **options: Passed to the module, over the values that the name stands for; see `VisionTransformer`, `Eva`,
            `ResNet` and `ResNetV2`.

    Raises:
        ValueError: an unknown name (the message lists the known ones), an unknown option, a size that does not fit.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes={num_classes}: give a number of classes, or 0 for the embedding.")
    module, named, _ = resolve(name)
    known = inspect.signature(module.__init__).parameters.keys() - _GIVEN
    if "image_size" in known:
        named = named | {"image_size": image_size}
        known = known - {"image_size"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"Model {name!r} has no option {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
    settings = named | options

    def make(rngs: nnx.Rngs) -> nnx.Module:
        return module(num_classes=num_classes, head=head, dtype=dtype, rngs=rngs, **settings)

    return functional(make)


# Of a module's parameters, those that are no options of the architecture.
_GIVEN = {"self", "num_classes", "head", "dtype", "rngs"}


class Resolved(NamedTuple):
    """What a name stands for.

    Attributes:
        module: The class.
        settings: Those that differ from its defaults.
        timm: timm's name of it, without a tag; '' for what timm has no name of.
    """

    module: type[Classifier]
    settings: dict[str, Any]
    timm: str


def resolve(name: str) -> Resolved:
    """What a model's name stands for. Raises ValueError for an unknown one (the message lists the known)."""
    match = _VIT_NAME.fullmatch(name)
    if match and match["size"] in VIT_SHAPES:
        settings = VIT_SHAPES[match["size"]]._asdict() | {"patch_size": int(match["patch"])}
        return Resolved(VisionTransformer, settings, "")
    if name in OTHERS:
        return Resolved(*OTHERS[name], "")
    if name.startswith("bit-") and name[4:] in BIT_SHAPES:
        return Resolved(ResNetV2, BIT_SHAPES[name[4:]]._asdict(), f"resnetv2_{name[4:]}_bit")
    stem, _, tag = name.partition(".")
    if name in _OUR_RESNETS or (stem in TIMM_NAMES and (tag or stem == name)):
        timm = _OUR_RESNETS.get(name, stem)
        return Resolved(*TIMM_NAMES[timm], timm)
    raise ValueError(f"Unknown model {name!r}.{_hint(name)} Known: {', '.join(known_names())}.")


def _hyphenated(timm_name: str, hyphen: str = "-") -> str:
    """`resnet50d` -> `resnet-50d`, also of a pattern."""
    return re.sub(r"(?=\d|\{)", hyphen, timm_name, count=1)


_OUR_RESNETS = {_hyphenated(name): name for row in RESNETS for name in expand(row.pattern)}


def _hint(name: str) -> str:
    ours = [f"vit-{size}/16" for size in VIT_SHAPES] + [f"bit-{size}" for size in BIT_SHAPES]
    close = difflib.get_close_matches(name, [*ours, *_OUR_RESNETS, *TIMM_NAMES], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
