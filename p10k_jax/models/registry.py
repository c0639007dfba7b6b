"""Models by name: ours, `vit-Ti/16`, `resnet-50`, and timm's, `vit_small_patch14_dinov2`, `resnet50`."""

import difflib
import inspect
import re

import jax.numpy as jnp
from flax import nnx

from p10k_jax.models.functional import Model, functional
from p10k_jax.models.heads import LINEAR_HEAD, HeadSettings
from p10k_jax.models.resnet import RESNET_SHAPES, ResNet
from p10k_jax.models.vit import VIT_SHAPES, VisionTransformer

# timm's names for sizes, with what else timm means by them; and for the checkpoints' families, what their ViTs have.
_TIMM_SIZES = {
    "tiny": "Ti",
    "small": "S",
    "base": "B",
    "large": "L",
    "huge": "H",
    "giant": "g",
    "so400m": "So400m",
}
_TIMM_FAMILIES = {
    "": {},
    "dinov2": {"layer_scale": 1e-5},
    "siglip": {"class_token": False, "pool": "map"},
    "clip": {"pre_norm": True, "norm_epsilon": 1e-5},
    "clip_quickgelu": {"pre_norm": True, "norm_epsilon": 1e-5, "activation": "quick_gelu"},
}
# DINOv2's giant is not the giant of Zhai et al.
_DINOV2_GIANT = {"width": 1536, "heads": 24, "mlp_ratio": 2 * 2.66667, "activation": "swiglu"}
_TIMM_VIT_NAME = re.compile(
    r"vit_(?P<size>[a-z0-9]+)_patch(?P<patch>[0-9]+)(_reg(?P<registers>[0-9]+))?(_(?P<family>[a-z][a-z0-9_]*?))?(_(?P<pixels>[0-9]+))?(\..+)?"
)

_VIT_NAME = re.compile(r"vit-(?P<size>[A-Za-z0-9]+)/(?P<patch>[1-9][0-9]*)")


def known_names() -> tuple[str, ...]:
    """Every model name `create` takes; `{patch}` stands for any patch size in pixels."""
    vits = tuple(f"vit-{size}/{{patch}}" for size in VIT_SHAPES)
    timm = tuple(f"vit_{{size}}_patch{{patch}}{f'_{family}' if family else ''}" for family in _TIMM_FAMILIES)
    return (*vits, *(f"resnet-{depth}" for depth in RESNET_SHAPES), *timm)


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
        **options: Passed to the module, over the values that the name stands for; see `VisionTransformer` and `ResNet`.

    Raises:
        ValueError: an unknown name (the message lists the known ones), an unknown option, a size that does not fit.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes={num_classes}: give a number of classes, or 0 for the embedding.")
    module, settings = _resolve(name)
    if "image_size" in settings:
        settings["image_size"] = image_size
    unknown = sorted(set(options) - set(settings))
    if unknown:
        known = ", ".join(sorted(set(settings) - {"image_size"}))
        raise ValueError(f"Model {name!r} has no option {', '.join(unknown)}; known: {known}.")
    settings |= options

    def make(rngs: nnx.Rngs) -> nnx.Module:
        return module(num_classes=num_classes, head=head, dtype=dtype, rngs=rngs, **settings)

    return functional(make)


def _timm_vit(match: re.Match) -> dict | None:
    """All settings of a ViT by timm's name, None for a size or a family that is not known."""
    family = match["family"] or ""
    if match["size"] not in _TIMM_SIZES or family not in _TIMM_FAMILIES:
        return None
    shape = VIT_SHAPES[_TIMM_SIZES[match["size"]]]._asdict()
    settings = _options(VisionTransformer) | shape | _TIMM_FAMILIES[family]
    if family == "dinov2" and match["size"] == "giant":
        settings |= _DINOV2_GIANT
    if family == "siglip" and _of_siglips_tanh(match["size"], match["patch"], match["pixels"]):
        settings["activation"] = "gelu_tanh"
    if match["registers"]:
        settings |= {"registers": int(match["registers"]), "embed_prefix": False}
    return settings | {"image_size": 0, "patch_size": int(match["patch"])}


def _of_siglips_tanh(size: str, patch: str, pixels: str | None) -> bool:
    """Whether timm gives that SigLIP, most of which have the exact GELU, its tanh approximation."""
    return (size, patch) in (("base", "32"), ("so400m", "16")) or (size, patch, pixels) == ("large", "16", "512")


def _options(module: type[nnx.Module]) -> dict:
    """The options of a module that have a default."""
    parameters = inspect.signature(module.__init__).parameters.values()
    options = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {name: value for name, value in options.items() if name not in ("head", "dtype")}


def _resolve(name: str) -> tuple[type[nnx.Module], dict]:
    """The module class that a name stands for, with all its settings."""
    match = _VIT_NAME.fullmatch(name)
    if match and match["size"] in VIT_SHAPES:
        settings = _options(VisionTransformer) | VIT_SHAPES[match["size"]]._asdict()
        return VisionTransformer, settings | {"image_size": 0, "patch_size": int(match["patch"])}
    if (match := _TIMM_VIT_NAME.fullmatch(name)) and (settings := _timm_vit(match)) is not None:
        return VisionTransformer, settings
    match = re.fullmatch(r"resnet-?(?P<depth>[0-9]+)(\..+)?", name)
    if match and match["depth"] in RESNET_SHAPES:
        return ResNet, RESNET_SHAPES[match["depth"]]._asdict()
    close = difflib.get_close_matches(name, [n.replace("{patch}", "16") for n in known_names()], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown model {name!r}.{hint} Known: {', '.join(known_names())}.")
