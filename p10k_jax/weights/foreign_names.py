"""State dicts of other codebases in timm's names: torchvision's ViTs and DINOv2's own. ResNets have one set."""

import re
from collections.abc import Iterable

import numpy as np

Tensors = dict[str, np.ndarray]

_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.(head|pre_logits)\.", r"\1."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.mlp\.(0|linear_1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.(3|linear_2)\.", r"\1.mlp.fc2."),
)
_DINOV2 = ((r"^(blocks\.\d+\.mlp)\.w12\.", r"\1.fc1."), (r"^(blocks\.\d+\.mlp)\.w3\.", r"\1.fc2."))
_UNKNOWN = {
    "transformers": r"(^|\.)(embeddings\.patch_embeddings?|encoder\.(layers?|stages)\.\d+)\.",
    "open_clip": r"^(module\.)?visual\.",
}


def is_torchvision_vit(names: Iterable[str]) -> bool:
    """Whether these are the names of torchvision's `VisionTransformer`."""
    return {"class_token", "conv_proj.weight", "encoder.pos_embedding"} <= set(names)


def in_timm_names(tensors: Tensors, where: str) -> tuple[Tensors, str]:
    """The state dict in timm's names, and in words whose names they were.

    torchvision's packed projection has the rows of timm's `qkv`, so that names are all that differ. DINOv2's files with
    registers add the first position to the class token, as timm does, which keeps neither's position in its table.

    Args:
        tensors: In torch's layouts.
        where: The file, for errors.

    Raises:
        ValueError: the names of a codebase whose files are not read, with the way out.
    """
    if is_torchvision_vit(tensors):
        return _renamed(tensors, _TORCHVISION), "torchvision's names"
    if "register_tokens" in tensors or any(name.endswith(".mlp.w12.weight") for name in tensors):
        return _from_dinov2(tensors), "DINOv2's names"
    for codebase, pattern in _UNKNOWN.items():
        if any(re.search(pattern, name) for name in tensors):
            raise ValueError(
                f"{where} has the names of {codebase}, which are not read; most public weights are on the Hugging Face "
                "hub in timm's as well: hf_hub:timm/NAME."
            )
    return tensors, "timm's names"


def _from_dinov2(tensors: Tensors) -> Tensors:
    tensors = _renamed(tensors, _DINOV2)
    if {"register_tokens", "cls_token", "pos_embed"} <= tensors.keys():
        positions = tensors["pos_embed"]
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors["cls_token"] = tensors["cls_token"] + positions[:, :1]
        tensors["pos_embed"] = positions[:, 1:]
    return tensors


def _renamed(tensors: Tensors, patterns: Iterable[tuple[str, str]]) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in patterns:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
