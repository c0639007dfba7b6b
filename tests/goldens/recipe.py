"""Fixed weights and inputs for golden tests, from names and shapes alone; NumPy only, so that torch's side can use it.

`numpy.random.RandomState` is frozen by NumPy's compatibility policy: these values never change.
"""

import zlib
from collections.abc import Mapping

import numpy as np

# name here -> (name for timm.create_model, keyword arguments there, image size). One entry a family and pooling.
MODELS = {
    "vit-Ti/16": ("vit_tiny_patch16_224", {"img_size": 64}, 64),
    "vit-S/8-avg": ("vit_small_patch8_224", {"img_size": 32, "global_pool": "avg", "fc_norm": True}, 32),
    "resnet-18": ("resnet18", {}, 64),
    "resnet-50": ("resnet50", {}, 64),
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


def fixed_images(image_size: int) -> np.ndarray:
    """float32[BATCH, image_size, image_size, 3], standard normal."""
    random = np.random.RandomState(image_size)
    return random.standard_normal((BATCH, image_size, image_size, 3)).astype(np.float32)
