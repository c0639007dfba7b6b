"""Google's original checkpoints, `.npz`, in timm's names and torch's layouts.

Three families of names are known: those of google-research/vision_transformer (ViT, AugReg, SAM), those of big_vision
(ViT, LiT, SigLIP, SigLIP 2, PaliGemma's image tower; blocks one by one or stacked by `nn.scan`), and those of
google-research/big_transfer (BiT, in the names of timm's `resnetv2`).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p10k_jax.weights.npz_files import NpzArchive, open_npz
from p10k_jax.weights.preprocessing import HALF, Preprocessing

# Where the image tower may begin; a training checkpoint has its optimizer's state beside it.
_VIT_ROOTS = ("", "params/", "params/img/", "opt/target/", "img/", "target/")
_BIT_ROOTS = ("resnet/", "params/resnet/", "")
_BIT_STEM = "root_block/standardized_conv2d/kernel"


class NpzWeights(NamedTuple):
    """Tensors by timm's names, torch's layouts, float32; and in words whose layout it was and what was left out."""

    tensors: dict[str, np.ndarray]
    description: str


class _Source(NamedTuple):
    """What a tensor is made of: arrays of the archive in order, each brought to torch's layout, then joined."""

    names: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray]
    stacked: bool = False  # over the blocks, along the first axis


def read_npz_weights(path: Path) -> NpzWeights:
    """Reads a checkpoint array by array; text towers and optimizer states stay unread.

    `pre_logits`, a layer of the first ViTs that timm's do not have, is left out with the classifier that stands on it.
    Arrays of the image tower whose names are not known here keep them, so that the fit to a model refuses them.

    Raises:
        ValueError: no such layout, an array that is missing or of an unexpected shape, a damaged file.
    """
    with open_npz(path) as archive:
        layout, root = _layout(archive)
        own = [name for name in archive.names if name.startswith(root)]
        shapes = {name.removeprefix(root): shape for name, shape in archive.shapes(own).items()}
        left_out = _left_out(archive.names, root)
        if layout == "BiT":
            sources = {_bit_name(name): _Source((name,), _bit_layout(name)) for name in shapes}
        else:
            if "pre_logits/kernel" in shapes:
                shapes = {name: s for name, s in shapes.items() if not name.startswith(("pre_logits/", "head/"))}
                left_out.append("pre_logits, a layer that timm's models do not have, and the head on it")
            if not any(name.endswith("pos_embedding") for name in shapes):
                left_out.append("positions, which are fixed sines and cosines and not in the file")
            sources = _vit_sources(shapes, path)
        tensors = {}
        for target, source in sources.items():
            tensors |= _tensors(archive, root, target, source)
    told = f"{layout}'s layout" + (f" under {root}" if root else "")
    return NpzWeights(tensors, told + (f"; left out on purpose: {', '.join(left_out)}" if left_out else ""))


def npz_preprocessing(path: Path) -> Preprocessing | None:
    """Of Google's ViTs: pixels from -1 to 1, and the image size that the position table is for; None for others.

    Raises:
        ValueError: as `read_npz_weights`; only shapes are looked at.
    """
    with open_npz(path) as archive:
        layout, root = _layout(archive)
        tables = [root + name for name in ("pos_embedding", "Transformer/posembed_input/pos_embedding")]
        tables = [name for name in tables if name in archive.names]
        if layout == "BiT" or not tables:
            return None
        shapes = archive.shapes([*tables, f"{root}embedding/kernel"])
    rows = math.prod(shapes[tables[0]][:-1])
    side = math.isqrt(max(0, rows - (f"{root}cls" in archive.names)))
    kernel = shapes[f"{root}embedding/kernel"]
    patch = kernel[0] if len(kernel) == 4 else math.isqrt(math.prod(kernel[:1]) // 3)
    return Preprocessing(*HALF, side * patch)


def _layout(archive: NpzArchive) -> tuple[str, str]:
    """Whose layout it is, and what stands before the names."""
    names = set(archive.names)
    for root in _VIT_ROOTS:
        if f"{root}embedding/kernel" in names and f"{root}Transformer/encoder_norm/scale" in names:
            if f"{root}conv_root/kernel" in names:
                raise ValueError(f"{archive.path} is a hybrid of ResNet and ViT, which no model here is.")
            original = f"{root}Transformer/posembed_input/pos_embedding" in names
            return "the original ViT" if original else "big_vision", root
    for root in _BIT_ROOTS:
        if f"{root}{_BIT_STEM}" in names:
            return "BiT", root
    some = ", ".join(archive.names[:5]) or "nothing"
    raise ValueError(
        f"{archive.path} is in no layout known here (ViT and AugReg, big_vision and SigLIP, BiT-M); it holds {some}..."
    )


def _left_out(names: Iterable[str], root: str) -> list[str]:
    """What lies beside the image tower, in groups, with the number of arrays in each."""
    groups: dict[str, int] = {}
    for name in names:
        if not name.startswith(root):
            parts = name.split("/")
            group = "/".join(parts[: 2 if parts[0] == root.split("/")[0] else 1])
            groups[group] = groups.get(group, 0) + 1
    words = {"txt": "the text tower", "llm": "the language model", "opt": "the optimizer's state"}
    told = []
    for group, count in groups.items():
        details = [words.get(group.split("/")[-1], ""), f"{count} array" + "s" * (count > 1)]
        told.append(f"{group} ({', '.join(filter(None, details))})")
    return told


# -- ViT

_NAMES = {
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "cls": "cls_token",
    "pos_embedding": "pos_embed",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
    "MAPHead_0/probe": "attn_pool.latent",
}
_SCOPE = re.compile(r"(Transformer/encoderblock(_(?P<block>\d+))?|MAPHead_0)/(?P<module>.+)/(?P<leaf>\w+)")
_MODULES = {"Dense_0": "mlp.fc1", "Dense_1": "mlp.fc2", "out": "proj"}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_FUSED = {"attn.qkv": ("query", "key", "value"), "q": ("query",), "kv": ("key", "value")}


def _vit_sources(shapes: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, _Source]:
    """timm's names and what each is made of.

    Raises:
        ValueError: one of query, key and value is missing, or two arrays are the same tensor.
    """
    sources = {}
    for name in shapes:
        target, names = _vit_name(name)
        if missing := [part for part in names if part not in shapes]:
            raise ValueError(f"{path}: {name} is there, but {', '.join(missing)} is missing.")
        if target in sources and sources[target].names != names:
            raise ValueError(f"{path}: {sources[target].names[0]} and {name} are both {target}.")
        sources[target] = _Source(names, _vit_layout(name), stacked="*" in target)
    return sources


def _vit_name(name: str) -> tuple[str, tuple[str, ...]]:
    """timm's name of an array's tensor, `*` for the number in a stack of blocks, and all arrays that it is made of."""
    match = _SCOPE.fullmatch(name)
    if match is None:
        return _NAMES.get(name, name), (name,)
    pool = name.startswith("MAPHead_0/")
    last = match["module"].split("/")[-1]
    names = (name,)
    if last in ("query", "key", "value"):
        module = ("q" if last == "query" else "kv") if pool else "attn.qkv"
        names = tuple(name.replace(f"/{last}/", f"/{part}/") for part in _FUSED[module])
    elif last.startswith("LayerNorm_"):
        module = "norm" if pool else "norm1" if last == "LayerNorm_0" else "norm2"
    else:
        module = _MODULES.get(last, match["module"])
        module = f"attn.{module}" if module == "proj" and not pool else module
    leaf = _LEAVES.get(match["leaf"], match["leaf"])
    return f"{'attn_pool' if pool else 'blocks.' + (match['block'] or '*')}.{module}.{leaf}", names


def _vit_layout(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """From flax's layout to torch's, by the name."""
    if name.endswith("pos_embedding"):  # a table, or SigLIP 2 NaFlex's grid
        return lambda value: value.reshape(1, -1, value.shape[-1])
    if name == "embedding/kernel":
        return _patch_layout
    if re.search(r"/(query|key|value)/kernel$", name):  # [width, heads, head]
        return lambda value: value.reshape(len(value), -1).T
    if re.search(r"/(query|key|value)/bias$", name):
        return np.ravel
    if name.endswith("/out/kernel"):  # [heads, head, width]
        return lambda value: value.reshape(-1, value.shape[-1]).T
    return np.transpose if name.endswith("/kernel") else lambda value: value


def _patch_layout(kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim == 2:  # NaFlex: a dense layer over the patch's rows, columns, channels
        side = math.isqrt(kernel.shape[0] // 3)
        kernel = kernel.reshape(side, side, 3, kernel.shape[1])
    return kernel.transpose(3, 2, 0, 1)


# -- BiT

_BIT_UNIT = re.compile(r"block(?P<stage>\d)/unit(?P<unit>\d+)/(?P<part>[abc])/(?P<rest>.+)")
_BIT_NAMES = {
    _BIT_STEM: "stem.conv.weight",
    "group_norm/gamma": "norm.weight",
    "group_norm/beta": "norm.bias",
    "head/conv2d/kernel": "head.fc.weight",
    "head/conv2d/bias": "head.fc.bias",
}
_BIT_PARTS = {
    "standardized_conv2d/kernel": "conv{number}.weight",
    "proj/standardized_conv2d/kernel": "downsample.conv.weight",
    "group_norm/gamma": "norm{number}.weight",
    "group_norm/beta": "norm{number}.bias",
}


def _bit_name(name: str) -> str:
    """timm's name of one of BiT's arrays; an unknown one stays."""
    match = _BIT_UNIT.fullmatch(name)
    if match is None or match["rest"] not in _BIT_PARTS:
        return _BIT_NAMES.get(name, name)
    leaf = _BIT_PARTS[match["rest"]].format(number="abc".index(match["part"]) + 1)
    return f"stages.{int(match['stage']) - 1}.blocks.{int(match['unit']) - 1}.{leaf}"


def _bit_layout(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return (lambda value: value.transpose(3, 2, 0, 1)) if name.endswith("/kernel") else np.ravel


# -- Both


def _tensors(archive: NpzArchive, root: str, target: str, source: _Source) -> dict[str, np.ndarray]:
    """The tensors of one name, or of that name in every block where they are stacked."""
    arrays = [archive.read(root + name) for name in source.names]
    try:
        if not source.stacked:
            return {target: _joined([source.convert(array) for array in arrays])}
        blocks = zip(*arrays, strict=True)
        return {
            target.replace("*", str(number)): _joined([source.convert(array) for array in block])
            for number, block in enumerate(blocks)
        }
    except (ValueError, IndexError, TypeError) as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(source.names, arrays, strict=True))
        raise ValueError(f"{archive.path}: {shapes} is not shaped as {target} is ({error}).") from error


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
