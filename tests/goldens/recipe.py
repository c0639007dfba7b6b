"""Fixed weights and inputs for golden tests, from names and shapes alone; NumPy only, so that torch's side can use it.

`numpy.random.RandomState` is frozen by NumPy's compatibility policy: these values never change.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Golden(NamedTuple):
    """One model in both worlds: arguments of our `create` and of `timm.create_model`, and the image size in pixels."""

    ours: str
    options: dict
    timm: str
    timm_options: dict
    image_size: int


_SMALL = {"width": 48, "depth": 2, "heads": 3}
_TIMM_SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 32}


_P8 = {"patch_size": 8}


def _small(ours: str, timm: str, options: dict | None = None, timm_options: dict | None = None) -> Golden:
    return Golden(ours, _SMALL | (options or {}), timm, _TIMM_SMALL | (timm_options or {}), 32)


def _narrow(name: str, image_size: int) -> Golden:
    """A ResNet of timm's name with a block a stage and a quarter of the channels."""
    blocks, widths = (1, 1, 1, 1), (16, 32, 64, 128)
    return Golden(name, {"blocks": blocks, "widths": widths}, name, {"layers": blocks, "channels": widths}, image_size)


# One entry a family and pooling; those of whole size first, the others narrow and two blocks deep.
MODELS = {
    "vit-Ti/16": Golden("vit-Ti/16", {}, "vit_tiny_patch16_224", {"img_size": 64}, 64),
    "vit-S/8-avg": Golden(
        "vit-S/8", {"pool": "avg"}, "vit_small_patch8_224", {"img_size": 32, "global_pool": "avg", "fc_norm": True}, 32
    ),
    "resnet-18": Golden("resnet-18", {}, "resnet18", {}, 64),
    "resnet-50": Golden("resnet-50", {}, "resnet50", {}, 64),
    "dinov2": _small("vit_small_patch14_dinov2", "vit_small_patch14_dinov2", _P8, _P8),
    "dinov2-registers": _small("vit_base_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2", _P8, _P8),
    "dinov2-giant": _small("vit_giant_patch14_dinov2", "vit_giant_patch14_dinov2", _P8, _P8),
    "siglip": _small("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_224"),
    "siglip-so400m": _small("vit_so400m_patch16_siglip_256", "vit_so400m_patch16_siglip_256"),
    "clip": _small("vit_base_patch16_clip_224", "vit_base_patch16_clip_224"),
    "clip-quickgelu": _small("vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_quickgelu_224"),
    "qk-norm": _small("vit-B/16", "vit_base_patch16_224", {"qk_norm": True}, {"qk_norm": True}),
    "deit3": _small("deit3_small_patch16_224", "deit3_small_patch16_224"),
    "siglip-gap": _small("vit_large_patch16_siglip_gap_512", "vit_large_patch16_siglip_gap_512"),
    "map-registers": _small("vit_so150m_patch16_reg4_map_256", "vit_so150m_patch16_reg4_map_256"),
    "medium-gap": _small("vit_medium_patch16_gap_256", "vit_medium_patch16_gap_256"),
    "eva": _small("eva_giant_patch14_224", "eva_giant_patch14_224", _P8, _P8),
    "eva02": _small("eva02_tiny_patch14_224", "eva02_tiny_patch14_224", _P8, _P8),
    "eva02-clip": _small("eva02_base_patch16_clip_224", "eva02_base_patch16_clip_224", _P8, _P8),
    "dinov3": _small("vit_small_patch16_dinov3", "vit_small_patch16_dinov3", _P8, _P8),
    "dinov3-plus": _small("vit_small_plus_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb", _P8, _P8),
    "rope": _small("vit_small_patch16_rope_ape_224", "vit_small_patch16_rope_ape_224", _P8, _P8),
    "rope-mixed": _small("vit_small_patch16_rope_mixed_224", "vit_small_patch16_rope_mixed_224", _P8, _P8),
    "perception": _small("vit_pe_core_tiny_patch16_384", "vit_pe_core_tiny_patch16_384", _P8, _P8),
    "resnet-18d": _narrow("resnet18d", 72),  # 72 pixels: the last stage halves 9 x 9
    "resnext": _narrow("seresnext26t_32x4d", 64),
    "resnet-aa": _narrow("seresnetaa50d", 64),
    "resnet-rs": _narrow("resnetrs50", 64),
    "bit": Golden(
        "bit-50x1",
        {"blocks": (1, 2), "widths": (128, 256), "stem_width": 32},
        "resnetv2_50x1_bit",
        {"layers": (1, 2), "channels": (128, 256), "stem_chs": 32},
        36,
    ),
}
NUM_CLASSES = 10
BATCH = 3


def fixed_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights for a timm state dict with these shapes that keep activations of order one."""
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            continue
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("running_var"):
            values = 1.0 + 0.5 * np.tanh(values)
        elif len(shape) >= 2 and name.endswith("weight"):
            values = values / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1.0 + 0.2 * values
        else:
            values = 0.2 * values
        weights[name] = values.astype(np.float32)
    return weights


_BLOCK = re.compile(r"(blocks|layer\d+|stages\.\d+\.blocks)\.(\d+)\.")


def depths(names: Iterable[str]) -> list[int]:
    """The number of blocks in each stage of a model whose state dict has these names."""
    found: dict[str, int] = {}
    for match in filter(None, map(_BLOCK.match, names)):
        found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return [found[stage] for stage in sorted(found)]


def first_blocks(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What is left of a state dict's shapes where each stage has its first block alone."""
    kept = {name: tuple(shape) for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    kept = {name: shape for name, shape in kept.items() if not (match := _BLOCK.match(name)) or match[2] == "0"}
    if "rope.freqs" in kept:  # coordinates, blocks, ...
        kept["rope.freqs"] = (kept["rope.freqs"][0], 1, *kept["rope.freqs"][2:])
    return kept


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Tells sets of names and shapes apart."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


# Rotary positions: options of timm's `create_rope_embed` for heads of 8 channels, and (rows, columns) of patches.
ROTARY = {
    "eva02": ({"rope_type": "cat", "in_pixels": False, "ref_feat_shape": (16, 16)}, (2, 3)),
    "rope": ({"rope_type": "cat", "in_pixels": False, "temperature": 100.0, "grid_indexing": "xy"}, (3, 2)),
    "perception": (
        {
            "rope_type": "cat",
            "in_pixels": False,
            "grid_indexing": "xy",
            "grid_offset": 1.0,
            "ref_feat_shape": (24, 24),
        },
        (2, 3),
    ),
    "dinov3": ({"rope_type": "dinov3", "temperature": 100.0, "rotate_half": True}, (2, 3)),
}
ROTARY_CHANNELS = 8

GRIDS = ((7, 4, 1), (3, 7, 0), (4, 5, 5))


def fixed_positions(side: int, prefix_tokens: int) -> np.ndarray:
    """float32[1, prefix_tokens + side * side, 3], standard normal."""
    return np.random.RandomState(side).standard_normal((1, prefix_tokens + side * side, 3)).astype(np.float32)


def fixed_images(image_size: int) -> np.ndarray:
    """float32[BATCH, image_size, image_size, 3], standard normal."""
    random = np.random.RandomState(image_size)
    return random.standard_normal((BATCH, image_size, image_size, 3)).astype(np.float32)
