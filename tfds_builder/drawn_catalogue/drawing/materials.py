"""Colours and light of containers."""

import functools

import numpy as np

from tfds_builder.drawn_catalogue.drawing import design

METAL = (206, 210, 214)
GLOSSES = ("plastic", "glass", "metal")


def colours(sku: design.SkuDesign) -> dict[str, tuple[int, ...]]:
    """RGB of each material that a container of the unit is made of."""
    family = sku.family
    cap = sku.trim if family.coloured_cap else family.cap
    contents = tuple(round(0.55 * a + 0.45 * b) for a, b in zip(family.second, (236, 226, 205), strict=True))
    body = family.body
    crimp = tuple(round(0.86 * value) for value in family.ground)
    return {"cap": cap, "body": body, "metal": METAL, "contents": contents, "foil": (222, 224, 226), "crimp": crimp}


@functools.cache
def shading(gloss: str) -> tuple[np.ndarray, np.ndarray]:
    """Light over the visible half of a cylinder: factor and highlight, float32[257], over u = -1..1."""
    u = np.linspace(-1, 1, 257, dtype=np.float32)
    depth = np.sqrt(1 - u**2)
    lambert = np.maximum(0, -0.42 * u + 0.9 * depth)
    factor = 0.42 + 0.64 * lambert
    highlight = 0.34 * np.exp(-(((u + 0.5) / 0.09) ** 2)) + 0.10 * np.exp(-(((u - 0.72) / 0.1) ** 2))
    if gloss == "metal":
        factor = factor * (1 + 0.07 * np.cos(u * 13))
        highlight = 0.42 * np.exp(-(((u + 0.42) / 0.11) ** 2)) + 0.22 * np.exp(-(((u - 0.62) / 0.07) ** 2))
    elif gloss == "glass":
        factor = factor * (0.8 + 0.2 * depth**0.5)
        highlight = 0.5 * np.exp(-(((u + 0.6) / 0.05) ** 2)) + 0.18 * np.exp(-(((u - 0.75) / 0.05) ** 2))
    return factor.astype(np.float32), highlight.astype(np.float32)
