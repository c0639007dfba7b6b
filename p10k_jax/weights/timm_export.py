"""A trained model in timm's terms: its architecture and arguments, and its tensors with neck and head made one."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from p10k_jax.models.functional import Tree
from p10k_jax.models.heads import HeadSettings
from p10k_jax.models.registry import resolve
from p10k_jax.models.vit import VisionTransformer
from p10k_jax.weights.state_dict import to_timm

# Our options of a ViT -> timm's arguments of `VisionTransformer`.
_ARGUMENTS = {
    "width": "embed_dim",
    "depth": "depth",
    "heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "pool": "global_pool",
    "class_token": "class_token",
    "registers": "reg_tokens",
    "pre_norm": "pre_norm",
    "qk_norm": "qk_norm",
    "qkv_bias": "qkv_bias",
    "layer_scale": "init_values",
    "activation": "act_layer",
}
# What matters in training alone.
_OF_TRAINING = ("drop_path", "frozen_norms")


def timm_model(name: str, options: Mapping[str, Any], image_size: int) -> tuple[str, dict[str, Any]]:
    """timm's architecture and the arguments that make it this model.

    Args:
        name: Of `create`.
        options: Over what the name stands for.
        image_size: Pixels.

    Raises:
        ValueError: a model that timm has not, or an option that timm has no argument for.
    """
    resolved = resolve(name)
    if not resolved.timm and resolved.module is not VisionTransformer:
        raise ValueError(f"timm has no model like {name!r}; --format=jax has all.")
    architecture, arguments = resolved.timm, {}
    changed = {key: value for key, value in options.items() if key not in _OF_TRAINING}
    if not architecture:  # ours, told in full over one of timm's
        architecture = "vit_base_patch16_224"
        changed = resolved.settings | changed
    parameters = inspect.signature(resolved.module.__init__).parameters
    for key, value in changed.items():
        default = parameters[key].default if key in parameters else None
        if resolved.settings.get(key, default) == value and resolved.timm:
            continue
        if resolved.module is not VisionTransformer:
            raise ValueError(f"timm's {architecture} has no argument for model.options.{key}; --format=jax has all.")
        arguments |= _argument(key, value)
    if "image_size" in parameters:
        arguments["img_size"] = image_size
    return architecture, arguments


def _argument(key: str, value: Any) -> dict[str, Any]:
    if key == "embed_prefix":
        return {"no_embed_class": not value}
    if key == "positions":
        return {"pos_embed": "none"} if value == "none" else {}
    if key not in _ARGUMENTS or (key, value) in (("pool", "gem"), ("activation", "swiglu")):
        raise ValueError(f"timm's ViT has no argument for model.options.{key}={value!r}; --format=jax has all.")
    if key == "layer_scale":
        value = value or None
    return {_ARGUMENTS[key]: value}


def options_of_timm(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Our options out of the arguments that `timm_model` gave; `img_size` becomes `image_size`.

    Raises:
        ValueError: an argument that `timm_model` never gives; `where` names the file.
    """
    ours = {theirs: option for option, theirs in _ARGUMENTS.items()} | {"img_size": "image_size"}
    options = {}
    for key, value in arguments.items():
        if key == "no_embed_class":
            options["embed_prefix"] = not value
        elif key == "pos_embed":
            options["positions"] = value
        elif key in ours:
            options[ours[key]] = 0.0 if key == "init_values" and value is None else value
        else:
            raise ValueError(f"{where}: model_args.{key}={value!r} is none that p10k_jax.export writes.")
    return options


def timm_tensors(params: Tree, batch_stats: Tree, head: HeadSettings) -> tuple[dict[str, np.ndarray], str]:
    """The state dict, with neck and head folded into the one linear layer that timm has.

    Args:
        params, batch_stats: Of a model with that head, float32.
        head: What it was trained with. A group head is left out.

    Returns:
        timm's names and layouts, and what a person should know of it ('' for nothing).

    Raises:
        ValueError: a head that no linear layer can be: a cosine head with several sub-centres, or one of another name.
    """
    if head.name not in ("linear", "cosine"):
        raise ValueError(f"head.name={head.name!r} is not known to be a linear layer; --format=jax has all heads.")
    trunk = {part: tree for part, tree in params.items() if part not in ("neck", "group_head")}
    statistics = {part: tree for part, tree in batch_stats.items() if part != "neck"}
    note = ""
    if head.name == "cosine" or "neck" in params:
        part = "fc" if "fc" in params else "head"
        inner = trunk[part].get("fc", trunk[part])  # ResNetV2's `head.fc`
        kernel, bias, note = _linear(inner, head)
        kernel, bias = _through_neck(kernel, bias, params.get("neck", {}), batch_stats.get("neck", {}))
        folded = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
        if "fc" in trunk[part]:  # a 1x1 convolution there
            folded = {"fc": folded | {"kernel": folded["kernel"][None, None]}}
        trunk[part] = folded
    return to_timm(trunk) | to_timm(statistics), note


def _linear(head: Tree, settings: HeadSettings) -> tuple[np.ndarray, np.ndarray, str]:
    """The classifier as float64 kernel [d, c] and bias [c]."""
    kernel = np.asarray(head["kernel"], np.float64)
    if settings.name == "linear":
        return kernel.reshape(kernel.shape[-2:]), np.asarray(head["bias"], np.float64), ""
    if settings.subcentres > 1:
        raise ValueError(
            f"A cosine head with {settings.subcentres} sub-centres a class is no linear layer, so timm cannot hold it; "
            "--format=jax does."
        )
    kernel = settings.scale * kernel / np.linalg.norm(kernel, axis=0)
    note = (
        "The head is a cosine: timm's logits are ours times the length of the image's embedding. The ranking of the "
        "classes is the same, their probabilities are not."
    )
    return kernel, np.zeros(kernel.shape[1]), note


def _through_neck(kernel: np.ndarray, bias: np.ndarray, neck: Tree, statistics: Tree) -> tuple[np.ndarray, np.ndarray]:
    """The linear layer that does what the neck and then the given one do."""
    if "norm" in neck:
        norm = {key: np.asarray(value, np.float64) for key, value in (neck["norm"] | statistics["norm"]).items()}
        factor = norm["scale"] / np.sqrt(norm["var"] + 1e-5)
        bias = bias - (norm["mean"] * factor) @ kernel
        kernel = factor[:, None] * kernel
    if "embedding" in neck:
        if "bias" in neck["embedding"]:
            bias = bias + np.asarray(neck["embedding"]["bias"], np.float64) @ kernel
        kernel = np.asarray(neck["embedding"]["kernel"], np.float64) @ kernel
    return kernel, bias
