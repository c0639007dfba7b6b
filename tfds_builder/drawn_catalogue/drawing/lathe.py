"""Bottles, cans, jars and other containers that are round: drawn from a profile."""

import functools

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import artwork, containers, design, emblems, materials

_LUT = 1024


def render(sku: design.SkuDesign, shape: containers.Round, side: int) -> np.ndarray:
    """A round container: float32[h, w, 4], 0..255, RGB premultiplied by alpha, and alpha."""
    widest = max(half for _, half in shape.profile) * sku.proportion
    reach = max([widest, *(abs(x) for _, points, _ in shape.parts for x, _ in points)])
    scale = side / max(1 + 2 * shape.tilt * widest, 2 * reach)
    half, top = reach * scale + 3, shape.tilt * shape.profile[0][1] * scale + 3
    y, x = np.mgrid[: round(scale + top + shape.tilt * widest * scale + 4), : round(2 * half)].astype(np.float32)
    x, y = (x - half + 0.5) / scale, (y - top + 0.5) / scale
    heights = np.linspace(0, 1, _LUT, dtype=np.float32)
    widths = np.interp(heights, *zip(*shape.profile, strict=True)).astype(np.float32) * sku.proportion
    widths = cv2.GaussianBlur(widths[None], (0, 0), 7, borderType=cv2.BORDER_REPLICATE)[0]
    # Seen a little from above, level circles bend down in front: undo the bend to find the height on the container.
    bend = shape.tilt * _depth(x, _pick(widths, y)) * _pick(widths, y)
    level = y - bend
    around = _pick(widths, level)
    u = np.clip(x / np.maximum(around, 1e-4), -1, 1)
    bottom = (1 - level) * scale + 0.5
    start = shape.profile[0][0]
    inside = np.clip(
        np.minimum((around - np.abs(x)) * scale + 0.5, np.minimum(bottom, (level - start) * scale + 0.5)), 0, 1
    )
    colour = _zones(sku, shape)[np.clip(level * (_LUT - 1), 0, _LUT - 1).astype(np.intp)]
    _wrap_label(colour, sku, shape, u, level, scale)
    factor, highlight = materials.shading(shape.gloss)
    light = ((u + 1) * 128).astype(np.intp)
    colour = colour * (factor[light] * _contact(shape)[np.clip(level * 1023, 0, 1023).astype(np.intp)])[..., None]
    colour += (255 * highlight[light])[..., None]
    image = np.dstack([np.clip(colour, 0, 255), np.full_like(x, 255)]) * inside[..., None]
    image = _add_lid(image, sku, shape, x, y, scale, start, widths)
    return _add_parts(image, sku, shape, half, top, scale)


def _pick(table: np.ndarray, height: np.ndarray) -> np.ndarray:
    return table[np.clip(height * (_LUT - 1), 0, _LUT - 1).astype(np.intp)]


def _depth(x: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(0, 1 - (x / np.maximum(half_width, 1e-4)) ** 2))


def _zones(sku: design.SkuDesign, shape: containers.Round) -> np.ndarray:
    colours = materials.colours(sku)
    table = np.zeros((_LUT, 3), np.float32)
    for first, last, role in shape.zones:
        table[int(first * _LUT) : int(last * _LUT) + 1] = colours[role]
        if role == "crimp":
            table[: int(last * _LUT) : 14] *= 0.82
    return table


@functools.cache
def _contact(shape: containers.Round) -> np.ndarray:
    """Darkening, float32[1024], below every step of the profile and towards the foot."""
    heights = np.linspace(0, 1, 1024, dtype=np.float32)
    table = 1 - 0.18 * np.exp(-(1 - heights) / 0.05)
    for (y0, w0), (y1, w1) in zip(shape.profile, shape.profile[1:], strict=False):
        if y1 - y0 < 0.012 and w0 != w1:
            table *= np.where(heights >= y0, 1 - 0.4 * np.exp(-(heights - y0) / 0.015), 1)
    return table.astype(np.float32)


def _wrap_label(
    colour: np.ndarray, sku: design.SkuDesign, shape: containers.Round, u: np.ndarray, level: np.ndarray, scale: float
) -> None:
    first, last = shape.label
    middle = np.interp((first + last) / 2, *zip(*shape.profile, strict=True)) * sku.proportion
    height, width = max(16, round((last - first) * scale)), max(16, round(np.pi * middle * scale))
    label = artwork.draw_label(sku, width, height, safe=0.62)
    across = ((0.5 + np.arcsin(u) / np.pi) * (width - 1)).astype(np.float32)
    down = ((level - first) / (last - first) * (height - 1)).astype(np.float32)
    wrapped = cv2.remap(label, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = np.clip(np.minimum(down, height - 1 - down) + 0.5, 0, 1)[..., None]
    colour += (wrapped - colour) * cover


def _add_lid(image, sku, shape, x, y, scale, start, widths) -> np.ndarray:
    """The top face, an ellipse; float32[h, w, 4] in and out."""
    if shape.tilt < 0.05 or start > 0:
        return image
    radius = float(widths[0])
    inside = np.clip(
        (1 - np.hypot(x / radius, (y - start) / (shape.tilt * radius))) * shape.tilt * radius * scale + 0.5, 0, 1
    )
    tone = np.float32(_zones(sku, shape)[2]) * 1.04 + 14
    ring = np.hypot(x / radius, (y - start) / (shape.tilt * radius))
    tone = np.where((ring > 0.8)[..., None], tone * 0.88, tone) * (1.06 - 0.16 * (x / radius))[..., None]
    lid = np.dstack([np.clip(tone, 0, 255), np.full_like(x, 255)])
    return image * (1 - inside[..., None]) + lid * inside[..., None]


def _add_parts(image: np.ndarray, sku, shape, half: float, top: float, scale: float) -> np.ndarray:
    for role, points, behind in shape.parts:
        outline = np.array(points) * scale + (half - 0.5, top - 0.5)
        mask = np.zeros(image.shape[:2], np.uint8)
        emblems.fill(mask, outline, (255,))
        share = (mask.astype(np.float32) / 255)[..., None]
        if role == "hole":
            image = image * (1 - share)
            continue
        soft = cv2.GaussianBlur(mask, (0, 0), 0.012 * scale + 0.3).astype(np.float32) / 255
        light = (
            0.62 + 0.42 * soft + 0.9 * np.clip(soft - np.roll(soft, max(1, round(0.012 * scale)), axis=1), -0.3, 0.3)
        )
        part = np.dstack(
            [np.clip(np.float32(materials.colours(sku)[role]) * light[..., None], 0, 255), np.full(mask.shape, 255.0)]
        )
        if behind:
            share = share * (1 - image[..., 3:] / 255)
            image = image + part * share
        else:
            image = image * (1 - share) + part * share
    return image
