"""The flat label of a SKU: ground, pattern, band, emblem, brand mark and lettering."""

import functools
import math

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfds_builder.drawn_catalogue.drawing import design, emblems

WHITE = (252, 251, 247)
# Arrangement -> heights of brand, emblem and band, as fractions of the label's height.
_PLACES = {
    "top": (0.34, 0.69, 0.12),
    "upper": (0.10, 0.71, 0.33),
    "middle": (0.10, 0.775, 0.41),
    "lower": (0.10, 0.41, 0.76),
    "bottom": (0.58, 0.26, 0.86),
}


def draw_label(sku: design.SkuDesign, width: int, height: int, safe: float) -> np.ndarray:
    """Draws the label of `sku`.

    Args:
      sku: the product.
      width, height: of the label in pixels.
      safe: share of the width, about the middle, that a viewer sees well; lettering and emblem stay within it.

    Returns:
      uint8[height, width, 3], RGB.
    """
    family = sku.family
    image = np.empty((height, width, 3), np.uint8)
    image[:] = family.ground
    rng = np.random.default_rng((family.seed, 11))
    _draw_pattern(image, family, rng)
    _draw_template(image, family, safe)
    brand_y, emblem_y, band_y = (place * height for place in _PLACES[sku.arrangement])
    room = safe * width
    band_height = 0.18 * height
    _draw_band(image, sku, band_y, band_height)
    light = sum(sku.colour) > 430
    _write(image, sku.flavour, (width / 2, band_y), (0.8 * room, 0.62 * band_height), (40, 36, 40) if light else WHITE)
    _draw_brand(image, family, brand_y, (0.86 * room, 0.13 * height))
    radius = min(0.215 * height, 0.46 * room)
    _draw_emblem(image, sku, (width / 2, emblem_y), radius)
    small = (0.34 * room, 0.055 * height)
    ink = family.ink if design.colour_distance(family.ink, family.ground) > 200 else (30, 30, 30)
    foot = 0.955 if sku.arrangement not in ("middle", "bottom") else (0.985 if sku.arrangement == "middle" else 0.735)
    _write(image, sku.size, (width / 2 + 0.3 * room, min(foot, 0.965) * height), small, ink)
    return image


def _draw_pattern(image: np.ndarray, family: design.FamilyDesign, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    tone = _mix(family.ground, family.second, 0.75)
    step = max(4, round(rng.uniform(0.14, 0.2) * height))
    if family.pattern == "stripes":
        for x in range(0, width, step):
            cv2.rectangle(image, (x, 0), (x + step // 2 - 1, height), tone, -1)
    elif family.pattern == "dots":
        for row, y in enumerate(range(0, height + step, step)):
            for x in range(-(row % 2) * step // 2, width + step, step):
                cv2.circle(image, (x, y), max(1, step // 4), tone, -1, cv2.LINE_AA)
    elif family.pattern == "checks":
        for row, y in enumerate(range(0, height, step)):
            for x in range((row % 2) * step, width, 2 * step):
                cv2.rectangle(image, (x, y), (x + step - 1, y + step - 1), tone, -1)
    elif family.pattern == "fade":
        share = (np.linspace(0, 1, height, dtype=np.float32) ** 1.3)[:, None, None] * 0.8
        image[:] = np.float32(family.ground) * (1 - share) + np.float32(family.second) * share
    elif family.pattern == "rings":
        for y in range(0, height + 2 * step, 2 * step):
            for x in range(0, width + 2 * step, 2 * step):
                cv2.circle(image, (x, y), round(0.7 * step), tone, max(1, step // 4), cv2.LINE_AA)
    elif family.pattern == "leaves":
        for _ in range(round(2.5 * width / step)):
            centre = rng.uniform(0, width), rng.uniform(0, height)
            emblems.draw_emblem(image, centre, 0.6 * step, "leaf", tone)
    elif family.pattern == "zigzag":
        xs = np.arange(-step, width + 2 * step, step)
        for y in range(0, height + step, step):
            points = np.stack([xs, y + (np.arange(len(xs)) % 2) * step // 2], axis=1).astype(np.int32)
            cv2.polylines(image, [points], False, tone, max(1, step // 5), cv2.LINE_AA)


def _draw_template(image: np.ndarray, family: design.FamilyDesign, safe: float) -> None:
    height, width = image.shape[:2]
    second, middle = family.second, width / 2
    if family.template == "split":
        xs = np.linspace(0, width, 30)
        edge = 0.56 * height + 0.05 * height * np.cos((xs - middle) / width * 2 * math.pi)
        emblems.fill(image, np.array([*zip(xs, edge, strict=True), (width, height), (0, height)]), second)
    elif family.template == "window":
        axes = (round(0.46 * safe * width), round(0.44 * height))
        cv2.ellipse(image, (width // 2, height // 2), axes, 0, 0, 360, _mix(family.ground, WHITE, 0.7), -1, cv2.LINE_AA)
        cv2.ellipse(image, (width // 2, height // 2), axes, 0, 0, 360, second, max(1, height // 60), cv2.LINE_AA)
    elif family.template == "frame":
        inset = round(0.035 * height)
        cv2.rectangle(image, (-9, inset), (width + 9, height - inset), second, max(1, height // 40), cv2.LINE_AA)
    elif family.template == "rays":
        for i in range(12):
            first, last = (2 * math.pi * (i + shift) / 12 for shift in (-0.25, 0.25))
            reach = 1.2 * max(width, height)
            corners = [(math.cos(a) * reach + middle, math.sin(a) * reach + 0.5 * height) for a in (first, last)]
            emblems.fill(image, np.array([(middle, 0.5 * height), *corners]), _mix(family.ground, second, 0.6))
    elif family.template == "sash":
        half = 0.3 * safe * width
        cv2.rectangle(image, (round(middle - half), 0), (round(middle + half), height), second, -1)
    elif family.template == "panel":
        half = 0.47 * safe * width
        corners = (round(middle - half), round(0.03 * height)), (round(middle + half), round(0.97 * height))
        cv2.rectangle(image, *corners, _mix(family.ground, WHITE, 0.85), -1)
        cv2.rectangle(image, *corners, second, max(1, height // 50))
    elif family.template == "halves":
        for side in (0, width):
            reach = 0.33 * safe * width * (1 if side == 0 else -1) + (1 - safe) / 2 * width * (1 if side == 0 else -1)
            corner = np.array([(side, 0), (side + 1.6 * reach, 0), (side, 0.5 * height)])
            emblems.fill(image, corner, second)
            emblems.fill(image, corner * (1, -1) + (0, height), second)


def _draw_band(image: np.ndarray, sku: design.SkuDesign, centre: float, thickness: float) -> None:
    width = image.shape[1]
    xs = np.linspace(-2, width + 2, 41)
    phase = (xs - width / 2) / width * 2 * math.pi
    upper, lower = np.full(41, centre - thickness / 2), np.full(41, centre + thickness / 2)
    if sku.band == "wave":
        upper += 0.22 * thickness * np.cos(2 * phase)
        lower += 0.22 * thickness * np.cos(2 * phase)
    elif sku.band == "arc":
        upper += 0.3 * thickness * np.cos(phase)
        lower += 0.3 * thickness * np.cos(phase)
    elif sku.band == "points":
        lower += 0.3 * thickness * (np.arange(41) % 2 - 0.3)
    for shape, colour in ((0.26 * thickness, sku.trim), (0.0, sku.colour)):
        outline = np.concatenate([np.stack([xs, upper - shape], 1), np.stack([xs, lower + shape], 1)[::-1]])
        emblems.fill(image, outline, colour)
    if sku.band == "double":
        for y in (centre - 0.9 * thickness, centre + 0.9 * thickness):
            cv2.line(image, (0, round(y)), (width, round(y)), sku.trim, max(1, round(0.14 * thickness)), cv2.LINE_AA)


def _draw_emblem(image: np.ndarray, sku: design.SkuDesign, centre: tuple[float, float], radius: float) -> None:
    outline = emblems.plate_polygon(sku.plate) * radius
    # Coloured plate, white emblem; the ring the other way round.
    rim, plate, mark = _mix(sku.mark, WHITE, 0.65), sku.mark, WHITE
    if sku.plate == "ring":
        rim, plate, mark = sku.mark, WHITE, sku.mark
    emblems.fill(image, outline * 1.1 + centre, rim)
    emblems.fill(image, outline * (0.8 if sku.plate == "ring" else 1.0) + centre, plate)
    emblems.draw_emblem(image, centre, 0.66 * radius, sku.emblem, mark)


def _draw_brand(image: np.ndarray, family: design.FamilyDesign, centre: float, box: tuple[float, float]) -> None:
    width = image.shape[1]
    room, thickness = box
    middle = width / 2
    left, right, top, bottom = middle - room / 2, middle + room / 2, centre - thickness / 2, centre + thickness / 2
    paper = family.ground if design.colour_distance(family.ground, family.ink) > 260 else WHITE
    colour = paper
    if family.brand_style == "pill":
        radius = thickness / 2
        outline = np.array(
            [
                (right - radius + radius * math.cos(a), centre + radius * math.sin(a))
                for a in np.linspace(-1.57, 1.57, 14)
            ]
            + [
                (left + radius - radius * math.cos(a), centre + radius * math.sin(a))
                for a in np.linspace(1.57, -1.57, 14)
            ]
        )
        emblems.fill(image, outline, family.ink)
    elif family.brand_style == "ribbon":
        notch = 0.3 * thickness
        outline = [
            (left, top),
            (right, top),
            (right - notch, centre),
            (right, bottom),
            (left, bottom),
            (left + notch, centre),
        ]
        emblems.fill(image, np.array(outline), family.ink)
        room *= 0.9
    elif family.brand_style == "block":
        emblems.fill(image, np.array([(-2, top), (width + 2, top), (width + 2, bottom), (-2, bottom)]), family.ink)
    else:
        colour = family.ink
        emblems.fill(image, np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), paper)
        if family.brand_style == "underline":
            emblems.fill(
                image, np.array([(left, bottom), (right, bottom), (right, bottom + 3), (left, bottom + 3)]), family.ink
            )
    _write(image, family.brand, (middle, centre), (0.84 * room, 0.72 * thickness), colour)


def _write(
    image: np.ndarray, text: str, centre: tuple[float, float], box: tuple[float, float], colour: tuple[int, ...]
) -> None:
    """Writes `text` in place, as large as `box` (width, height in pixels) allows, centred."""
    mask = text_mask(text, max(5, round(1.25 * box[1])), int(box[0]))
    top, left = round(centre[1] - mask.shape[0] / 2), round(centre[0] - mask.shape[1] / 2)
    top, left = max(0, min(top, image.shape[0] - mask.shape[0])), max(0, left)
    part = image[top : top + mask.shape[0], left : left + mask.shape[1]]
    share = mask[: part.shape[0], : part.shape[1], None].astype(np.float32) / 255
    part[:] = part * (1 - share) + np.float32(colour) * share


@functools.lru_cache(maxsize=512)
def text_mask(text: str, size: int, width: int) -> np.ndarray:
    """Coverage, uint8[h, w], of bold lettering cut to its ink: at most `size` pixels of font size and `width` wide."""
    font = _font(size)
    stroke = size / 24
    left, _, right, _ = font.getbbox(text)
    if right - left + 2 * stroke > width:
        size = max(4, int(size * width / (right - left + 2 * stroke)))
        font, stroke = _font(size), size / 24
    left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
    canvas = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=255, font=font, stroke_width=stroke)
    return np.asarray(canvas)


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _mix(first: design.Colour, second: design.Colour, share: float) -> design.Colour:
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]
