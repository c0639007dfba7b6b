"""Containers of film and paper: pouches, bags, sachets, sacks and wrappers."""

import functools

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import artwork, containers, design, emblems


def render(sku: design.SkuDesign, shape: containers.Soft, side: int) -> np.ndarray:
    """A bag, pouch, sachet, sack or bar: float32[h, w, 4], 0..255, RGB premultiplied by alpha, and alpha."""
    aspect = shape.width * (1 + (sku.proportion - 1) * 0.7)
    scale = (side - 4) / max(1, aspect)
    width, height = round(aspect * scale), round(scale)
    rng = np.random.default_rng((sku.family.seed, 12))
    mask = np.zeros((height, width), np.uint8)
    emblems.fill(mask, _soft_outline(shape.outline) * (width, height) - 0.5, (255,))
    if shape.outline == "bar":
        inset = round(0.08 * width)
        label = np.empty((height, width, 3), np.uint8)
        label[:] = sku.family.ground
        label[:, inset:-inset] = cv2.rotate(
            artwork.draw_label(sku, height, width - 2 * inset, safe=0.88), cv2.ROTATE_90_COUNTERCLOCKWISE
        )
    else:
        top = {"pouch": 0.13, "pillow": 0.07, "sachet": 0.07, "sack": 0.12}[shape.outline]
        foot = {"pouch": 0.06, "pillow": 0.07, "sachet": 0.05, "sack": 0.02}[shape.outline]
        label = np.empty((height, width, 3), np.uint8)
        label[:] = sku.family.ground
        first, last = round(top * height), round((1 - foot) * height)
        label[first:last] = artwork.draw_label(sku, width, last - first, safe=0.8)
    colour = label.astype(np.float32)
    _crease(colour, shape.outline)
    factor, highlight = _swell(mask, shape.volume, rng)
    colour = colour * factor[..., None] + 255 * highlight[..., None]
    return (
        np.dstack([np.clip(colour, 0, 255), np.full(mask.shape, 255, np.float32)])
        * (mask.astype(np.float32) / 255)[..., None]
    )


@functools.cache
def _soft_outline(name: str) -> np.ndarray:
    """Outline, float64[n, 2] in 0..1."""
    if name == "pouch":
        t = np.linspace(0, 1, 12)
        foot = np.stack([0.97 - 0.94 * t, 0.955 + 0.04 * np.sin(t * np.pi)], 1)
        return np.concatenate(
            [
                [(0.05, 0.005), (0.95, 0.005), (0.955, 0.12), (0.995, 0.86), (0.97, 0.955)],
                foot,
                [(0.005, 0.86), (0.045, 0.12)],
            ]
        )
    if name == "sachet":
        return np.array([(0.01, 0.005), (0.99, 0.005), (0.99, 0.995), (0.01, 0.995)])
    if name == "sack":
        return np.array(
            [
                (0.03, 0.03),
                (0.06, 0.005),
                (0.94, 0.005),
                (0.97, 0.03),
                (0.995, 0.16),
                (0.99, 0.975),
                (0.96, 0.995),
                (0.04, 0.995),
                (0.01, 0.975),
                (0.005, 0.16),
            ]
        )
    t = np.linspace(0, 1, 29)
    teeth = 0.012 * (np.arange(29) % 2)
    if name == "pillow":
        s = np.linspace(0.06, 0.94, 15)
        waist = 0.035 - 0.03 * np.sin((s - 0.06) / 0.88 * np.pi) ** 0.6
        upper, lower = np.stack([0.04 + 0.92 * t, teeth], 1), np.stack([0.96 - 0.92 * t, 1 - teeth], 1)
        return np.concatenate([upper, np.stack([1 - waist, s], 1), lower, np.stack([waist, s[::-1]], 1)])
    # A bar's wrapper: crimped left and right.
    s = np.linspace(0.06, 0.94, 15)
    waist = 0.09 - 0.07 * np.minimum(1, np.sin((s - 0.06) / 0.88 * np.pi) * 3)
    right, left = np.stack([1 - 0.5 * teeth, 0.06 + 0.88 * t], 1), np.stack([0.5 * teeth, 0.94 - 0.88 * t], 1)
    return np.concatenate([np.stack([s, waist], 1), right, np.stack([s[::-1], 1 - waist], 1), left])


def _crease(colour: np.ndarray, outline: str) -> None:
    """Seals and folds, in place."""
    height, width = colour.shape[:2]
    if outline == "bar":
        for x in range(0, round(0.055 * width), max(2, width // 90)):
            colour[:, [x, width - 1 - x]] *= 0.8
        return
    if outline == "sack":
        colour[: round(0.1 * height)] *= 0.9
        colour[round(0.1 * height) : round(0.115 * height)] *= 0.72
        return
    step = max(2, height // 90)
    for y in range(0, round((0.05 if outline == "pillow" else 0.04) * height), step):
        colour[y] *= 0.82
        if outline != "pouch":
            colour[height - 1 - y] *= 0.82
    if outline == "pouch":
        colour[round(0.1 * height) : round(0.112 * height)] *= 0.85
    if outline == "sachet":
        edge = max(1, round(0.035 * width))
        colour[:, :edge] *= 0.92
        colour[:, -edge:] *= 0.92


def _swell(mask: np.ndarray, volume: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Light on a filled bag: factor and highlight, float32[h, w], from a height field with wrinkles."""
    height, width = mask.shape
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform((padded > 127).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = 0.42 * min(height, width)
    rise = np.sqrt(np.maximum(0, 1 - (1 - np.minimum(1, distance / reach)) ** 2))
    rough = cv2.resize(rng.standard_normal((9, 7)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    rise = cv2.GaussianBlur(rise + 0.05 * rough, (0, 0), 0.02 * min(height, width) + 0.5)
    east = cv2.Sobel(rise, cv2.CV_32F, 1, 0, ksize=3) * reach / 8
    south = cv2.Sobel(rise, cv2.CV_32F, 0, 1, ksize=3) * reach / 8
    lit = np.clip(0.34 * east + 0.42 * south, -0.45, 0.32)
    factor = 0.97 + volume * 0.75 * lit
    highlight = volume * 0.5 * np.clip(lit - 0.13, 0, 1)
    return factor.astype(np.float32), highlight.astype(np.float32)
