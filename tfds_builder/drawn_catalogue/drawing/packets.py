"""Containers of board: boxes, cartons and blisters."""

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import artwork, containers, design, emblems, materials


def render_box(sku: design.SkuDesign, shape: containers.Boxed, side: int) -> np.ndarray:
    """A box or carton: float32[h, w, 4], 0..255, RGB premultiplied by alpha, and alpha."""
    front, depth = shape.front * sku.proportion, shape.side
    scale = (side - 6) / max(1, front + depth)
    width, height = round((front + depth) * scale) + 8, round(scale) + 8
    lift = 0.045
    top = shape.roof or lift

    def at(x: float, y: float) -> tuple[float, float]:
        return x * scale + 4, y * scale + 4

    corners = [at(0, top), at(front, top + 0.3 * lift), at(front, 1), at(0, 1 - 0.6 * lift)]
    edge = [
        at(front, top + 0.3 * lift),
        at(front + depth, top - 0.4 * lift),
        at(front + depth, 1 - 1.4 * lift),
        at(front, 1),
    ]
    pixels = max(16, round(front * scale)), max(16, round((1 - top) * scale))
    label = artwork.draw_label(sku, *pixels, safe=0.88)
    canvas = np.zeros((height, width, 4), np.float32)
    # The side repeats the label's last column: ground and band run round the corner, lettering does not.
    _paste(canvas, np.repeat(label[:, -2:-1], 16, axis=1), edge, (0.80, 0.66))
    _paste(canvas, label, corners, (1.04, 0.94))
    if shape.roof:
        _add_roof(canvas, sku, shape, at, front, depth, top + 0.3 * lift)
    else:
        face = [at(0, top), at(front, top + 0.3 * lift), at(front + depth, top - 0.4 * lift), at(depth * 0.9, 0.004)]
        _polygon(canvas, face, tuple(min(255, 1.06 * value + 8) for value in sku.family.ground))
        band = [(0.8 * p[0] + 0.2 * q[0], 0.8 * p[1] + 0.2 * q[1]) for p, q in ((face[0], face[3]), (face[1], face[2]))]
        _polygon(canvas, [face[0], face[1], band[1], band[0]], sku.family.second)
    if shape.straw:
        path = [at(front + 0.35 * depth, top + 0.1), at(front + 0.75 * depth, 0.8)]
        cv2.line(canvas, *[tuple(round(v) for v in p) for p in path], (238, 238, 238, 255), max(1, round(0.02 * scale)))
    return canvas


def _add_roof(canvas, sku, shape, at, front: float, depth: float, top: float) -> None:
    ground = np.float32(sku.family.ground)
    ridge = 0.35 * shape.roof
    slope = [at(0, shape.roof), at(front, top), at(front + 0.25 * depth, ridge), at(0.3 * depth, ridge)]
    gable = [at(front, top), at(front + depth, shape.roof - 0.02), at(front + 0.25 * depth, ridge)]
    _polygon(canvas, gable, tuple(0.62 * ground))
    _polygon(canvas, slope, tuple(np.minimum(255, 1.02 * ground + 6)))
    _polygon(canvas, [at(0.3 * depth, 0), at(front + 0.25 * depth, 0), slope[2], slope[3]], tuple(0.9 * ground))
    x, y = at(0.5 * front + 0.15 * depth, 0.68 * shape.roof)
    radius = 0.16 * front * canvas.shape[0]
    cap = materials.colours(sku)["cap"]
    shade = tuple(0.7 * value for value in cap)
    cv2.ellipse(
        canvas,
        (round(x), round(y + 0.3 * radius)),
        (round(radius), round(0.75 * radius)),
        0,
        0,
        360,
        (*shade, 255),
        -1,
        cv2.LINE_AA,
    )
    cv2.ellipse(
        canvas, (round(x), round(y)), (round(radius), round(0.75 * radius)), 0, 0, 360, (*cap, 255), -1, cv2.LINE_AA
    )


def _paste(canvas: np.ndarray, picture: np.ndarray, corners: list, light: tuple[float, float]) -> None:
    """Lays an opaque picture onto four corners, light falling off from left to right; in place, on float32[h, w, 4]."""
    height, width = picture.shape[:2]
    shade = np.linspace(*light, width, dtype=np.float32)[None, :, None]
    opaque = np.dstack([np.clip(picture * shade, 0, 255), np.full((height, width), 255, np.float32)]).astype(np.float32)
    source = np.float32([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    matrix = cv2.getPerspectiveTransform(source, np.float32(corners) - 0.5)
    warped = cv2.warpPerspective(opaque, matrix, canvas.shape[1::-1], flags=cv2.INTER_LINEAR)
    canvas *= 1 - warped[..., 3:] / 255
    canvas += warped


def _polygon(canvas: np.ndarray, points: list, colour: tuple) -> None:
    mask = np.zeros(canvas.shape[:2], np.uint8)
    emblems.fill(mask, np.array(points) - 0.5, (255,))
    share = (mask.astype(np.float32) / 255)[..., None]
    canvas *= 1 - share
    canvas += share * np.float32((*colour, 255))


def render_blister(sku: design.SkuDesign, shape: containers.Carded, side: int) -> np.ndarray:
    """A product on a card: float32[h, w, 4], 0..255, RGB premultiplied by alpha, and alpha."""
    height = side - 4
    width = round(shape.width * sku.proportion * height)
    label = artwork.draw_label(sku, width, round(0.6 * height), safe=0.88)
    card = np.empty((height, width, 3), np.float32)
    card[:] = sku.family.second
    card[: label.shape[0]] = label
    ink = np.float32(sku.family.ink)
    rng = np.random.default_rng((sku.family.seed, 13))
    number, left, right = int(rng.integers(1, 5)), 0.12 * width, 0.88 * width
    first, last = round(0.63 * height), round(0.95 * height)
    pitch = (right - left) / number
    u = ((np.arange(width) - left) % pitch) / pitch * 2 - 1
    factor, highlight = materials.shading("plastic")
    light = np.clip((u * 1.12 + 1) * 128, 0, 256).astype(np.intp)
    goods = (
        np.float32(sku.trim if sku.family.coloured_cap else 0.6 * ink + 80) * factor[light][:, None]
        + 255 * highlight[light][:, None]
    )
    rows = slice(first + round(0.03 * height), last - round(0.03 * height))
    columns = (np.abs(u) < 0.86) & (np.arange(width) > left) & (np.arange(width) < right)
    card[rows, columns] = goods[columns]
    cv2.rectangle(
        card, (round(left) - 3, first), (round(right) + 3, last), (250, 250, 250), max(1, height // 90), cv2.LINE_AA
    )
    card[first:last, round(left) : round(right)] = card[first:last, round(left) : round(right)] * 0.88 + 30
    glint = np.array([(0.16, 0.66), (0.3, 0.66), (0.2, 0.92), (0.14, 0.92)]) * (width, height)
    shine = np.zeros((height, width), np.uint8)
    emblems.fill(shine, glint, (120,))
    card += shine[..., None].astype(np.float32) * 0.6
    mask = np.zeros((height, width), np.uint8)
    _rounded(mask, 0.04 * width)
    hole = (width // 2, max(3, round(0.035 * height)))
    cv2.ellipse(mask, hole, (max(2, round(0.08 * width)), max(1, round(0.016 * height))), 0, 0, 360, 0, -1, cv2.LINE_AA)
    return (
        np.dstack([np.clip(card, 0, 255), np.full(mask.shape, 255, np.float32)])
        * (mask.astype(np.float32) / 255)[..., None]
    )


def _rounded(mask: np.ndarray, radius: float) -> None:
    height, width = mask.shape
    angles = np.linspace(0, np.pi / 2, 7)
    arc = np.stack([np.cos(angles), np.sin(angles)], 1) * radius
    quarter = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    outline = []
    for i, (sx, sy) in enumerate(quarter):
        centre = np.array([(width - radius) if sx > 0 else radius, (height - radius) if sy > 0 else radius])
        points = arc * (sx, sy) + centre
        outline.extend(points if i % 2 == 0 else points[::-1])
    emblems.fill(mask, np.array(outline) - 0.5, (255,))
