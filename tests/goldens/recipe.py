"""Fixed weights and inputs for golden tests, from names and shapes alone; NumPy only, so that torch's side can use it.

`numpy.random.RandomState` is frozen by NumPy's compatibility policy: these values never change.
"""

import zlib
from collections.abc import Mapping
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


def _small(ours: str, timm: str, options: dict | None = None, timm_options: dict | None = None) -> Golden:
    return Golden(ours, _SMALL | (options or {}), timm, _TIMM_SMALL | (timm_options or {}), 32)


# One entry a family and pooling; those of whole size first, the others narrow and two blocks deep.
MODELS = {
    "vit-Ti/16": Golden("vit-Ti/16", {}, "vit_tiny_patch16_224", {"img_size": 64}, 64),
    "vit-S/8-avg": Golden(
        "vit-S/8", {"pool": "avg"}, "vit_small_patch8_224", {"img_size": 32, "global_pool": "avg", "fc_norm": True}, 32
    ),
    "resnet-18": Golden("resnet-18", {}, "resnet18", {}, 64),
    "resnet-50": Golden("resnet-50", {}, "resnet50", {}, 64),
    "dinov2": _small("vit_small_patch14_dinov2", "vit_small_patch14_dinov2", {"patch_size": 8}, {"patch_size": 8}),
    "dinov2-registers": _small(
        "vit_base_patch16_reg4_dinov2", "vit_base_patch14_reg4_dinov2", {"patch_size": 8}, {"patch_size": 8}
    ),
    "dinov2-giant": _small("vit_giant_patch8_dinov2", "vit_giant_patch14_dinov2", {}, {"patch_size": 8}),
    "siglip": _small("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_224"),
    "siglip-so400m": _small("vit_so400m_patch16_siglip_256", "vit_so400m_patch16_siglip_256"),
    "clip": _small("vit_base_patch16_clip_224", "vit_base_patch16_clip_224"),
    "clip-quickgelu": _small("vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_quickgelu_224"),
    "qk-norm": _small("vit-B/16", "vit_base_patch16_224", {"qk_norm": True}, {"qk_norm": True}),
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


GRIDS = ((7, 4, 1), (3, 7, 0), (4, 5, 5))


def fixed_positions(side: int, prefix_tokens: int) -> np.ndarray:
    """float32[1, prefix_tokens + side * side, 3], standard normal."""
    return np.random.RandomState(side).standard_normal((1, prefix_tokens + side * side, 3)).astype(np.float32)


def fixed_images(image_size: int) -> np.ndarray:
    """float32[BATCH, image_size, image_size, 3], standard normal."""
    random = np.random.RandomState(image_size)
    return random.standard_normal((BATCH, image_size, image_size, 3)).astype(np.float32)
