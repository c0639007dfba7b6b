"""Models by name: `vit-Ti/16`, `vit-B/14`, `resnet-50`."""

import difflib
import re

import jax.numpy as jnp
from flax import nnx

from p10k_jax.models.functional import Model, functional
from p10k_jax.models.resnet import RESNET_SHAPES, ResNet
from p10k_jax.models.vit import VIT_SHAPES, VisionTransformer

_VIT_NAME = re.compile(r"vit-(?P<size>[A-Za-z0-9]+)/(?P<patch>[1-9][0-9]*)")


def known_names() -> tuple[str, ...]:
    """Every model name `create` takes; `{patch}` stands for any patch size in pixels."""
    vits = tuple(f"vit-{size}/{{patch}}" for size in VIT_SHAPES)
    return (*vits, *(f"resnet-{depth}" for depth in RESNET_SHAPES))


def create(name: str, *, num_classes: int, image_size: int, dtype: jnp.dtype = jnp.float32, **options) -> Model:
    """The model of that name as pure functions.

    Args:
        name: One of `known_names()`, for example `vit-S/16` or `resnet-50`.
        num_classes: Number of classes, at least 1.
        image_size: Side of the square input in pixels.
        dtype: What the forward pass computes in; parameters and logits are float32.
        **options: Passed to the module, over the values that the name stands for: for a ViT `width`, `depth`, `heads`,
            `mlp_ratio`, `pool`; for a ResNet `blocks`, `bottleneck`.

    Raises:
        ValueError: an unknown name (the message lists the known ones), an unknown option, a size that does not fit.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: a classifier needs at least one class.")
    module, settings = _resolve(name)
    if "image_size" in settings:
        settings["image_size"] = image_size
    unknown = sorted(set(options) - set(settings))
    if unknown:
        known = ", ".join(sorted(set(settings) - {"image_size"}))
        raise ValueError(f"Model {name!r} has no option {', '.join(unknown)}; known: {known}.")
    settings |= options

    def make(rngs: nnx.Rngs) -> nnx.Module:
        return module(num_classes=num_classes, dtype=dtype, rngs=rngs, **settings)

    return functional(make)


def _resolve(name: str) -> tuple[type[nnx.Module], dict]:
    """The module class that a name stands for, with all its settings."""
    match = _VIT_NAME.fullmatch(name)
    if match and match["size"] in VIT_SHAPES:
        defaults = {"image_size": 0, "patch_size": int(match["patch"]), "mlp_ratio": 4.0, "pool": "token"}
        return VisionTransformer, VIT_SHAPES[match["size"]]._asdict() | defaults
    family, _, depth = name.partition("-")
    if family == "resnet" and depth in RESNET_SHAPES:
        return ResNet, RESNET_SHAPES[depth]._asdict()
    close = difflib.get_close_matches(name, [n.replace("{patch}", "16") for n in known_names()], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown model {name!r}.{hint} Known: {', '.join(known_names())}.")
