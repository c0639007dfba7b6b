"""Renders one product without its surroundings: container, light and label, as a picture with transparency."""

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import bags, containers, design, lathe, packets


def render_product(sku: design.SkuDesign, side: int) -> np.ndarray:
    """Renders `sku`.

    Args:
      sku: what to draw.
      side: longer side of the result in pixels, at least 32.

    Returns:
      uint8[h, w, 4]: RGB premultiplied by alpha, and alpha; cropped to the product with a border of two pixels.
    """
    shape = containers.CONTAINERS.get(sku.family.container)
    if shape is None:
        known = ", ".join(sorted(containers.CONTAINERS))
        raise ValueError(f"unknown container {sku.family.container!r}; there are: {known}")
    if isinstance(shape, containers.Round):
        image = lathe.render(sku, shape, side)
    elif isinstance(shape, containers.Boxed):
        image = packets.render_box(sku, shape, side)
    elif isinstance(shape, containers.Soft):
        image = bags.render(sku, shape, side)
    else:
        image = packets.render_blister(sku, shape, side)
    return _crop(image, side)


def _crop(image: np.ndarray, side: int) -> np.ndarray:
    """Cuts to the product, leaves a border of two clear pixels, and brings the longer side to `side`."""
    rows, columns = (np.flatnonzero(image[..., 3].max(axis=axis) > 8) for axis in (1, 0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = (side - 4) / max(image.shape[:2])
    if abs(scale - 1) > 0.02:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
