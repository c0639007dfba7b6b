"""Small splits in memory, for tests that need no dataset on disk."""

import numpy as np

from p10k_jax.data.splits import Split
from tfds_builder import pictures


def picture(seed: int, height: int = 40, width: int = 56) -> bytes:
    """A smooth JPEG that differs from seed to seed."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (4, 5, 3)).astype(np.uint8)
    return pictures.encode_jpeg(pictures.resize(coarse, height, width))


def memory_split(num_examples: int, num_classes: int = 4, **overrides: bytes) -> Split:
    """A split whose example i has label i % num_classes; `overrides` replaces image bytes: `image_3=b"..."`."""
    records = [
        {
            "image": overrides.get(f"image_{i}") or picture(i, height=40 + i % 7),
            "label": i % num_classes,
            "group": i % 2,
            "name": f"{i:04d}.jpg".encode(),
            "usage": (b"public", b"private")[i % 3 == 0],
        }
        for i in range(num_examples)
    ]
    return Split("memory", "train", num_classes, records, "image", "label")
