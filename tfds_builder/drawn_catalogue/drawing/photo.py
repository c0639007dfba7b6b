"""Photographs of a product: the clean shop photo and the customer's photo."""

import dataclasses

import cv2
import numpy as np

from tfds_builder.drawn_catalogue.drawing import artwork, backdrops, camera

SHOP_ASPECTS = ((1.0, 0.7), (0.75, 0.2), (1.33, 0.1))  # width / height, share
CUSTOMER_ASPECTS = ((0.75, 0.5), (1.0, 0.2), (1.33, 0.15), (0.5625, 0.15))
PROMOTION_COLOURS = (
    (226, 40, 46),
    (250, 120, 20),
    (30, 120, 220),
    (40, 160, 80),
    (236, 50, 130),
    (250, 196, 30),
    (110, 60, 170),
)
SKIN_TONES = ((236, 190, 160), (214, 160, 124), (168, 112, 78), (112, 72, 50), (246, 208, 184))
SCENES = (("table", 0.44), ("lying", 0.2), ("hand", 0.18), ("shelf", 0.18))


@dataclasses.dataclass(frozen=True)
class Frame:
    """The size of a picture, and of the canvas on which it is drawn before it is reduced; pixels."""

    height: int
    width: int
    canvas_height: int
    canvas_width: int


def oversampling(image_side: int) -> float:
    """Canvas pixels per picture pixel: small pictures need more, for edges as soft as a lens leaves them."""
    return 2.0 if image_side <= 96 else 1.5 if image_side <= 256 else 1.25


def draw_photo(product: np.ndarray, kind: str, image_side: int, rng: np.random.Generator) -> np.ndarray:
    """Draws one photo.

    Args:
      product: uint8[h, w, 4] as `product.render_product` gives it.
      kind: 'shop' (white ground) or 'customer' (cluttered).
      image_side: longer side of the picture, pixels.
      rng: the source of everything that is left to chance.

    Returns:
      uint8[height, width, 3], RGB; the longer side is `image_side`.
    """
    if kind not in ("shop", "customer"):
        raise ValueError(f"unknown kind of photo {kind!r}; there are: shop, customer")
    frame = _frame(rng, SHOP_ASPECTS if kind == "shop" else CUSTOMER_ASPECTS, image_side)
    canvas = _shop(product, frame, rng) if kind == "shop" else _customer(product, frame, rng)
    return camera.develop(canvas, frame.height, frame.width, kind == "customer", rng)


def _frame(rng: np.random.Generator, aspects: tuple[tuple[float, float], ...], side: int) -> Frame:
    aspect = _draw(rng, aspects) * rng.uniform(0.97, 1.03)
    height, width = (side, max(16, round(side * aspect))) if aspect < 1 else (max(16, round(side / aspect)), side)
    scale = oversampling(side)
    return Frame(height, width, round(height * scale), round(width * scale))


def _draw(rng: np.random.Generator, choices: tuple[tuple, ...]):
    """One of (value, share), by the shares."""
    ball = rng.random()
    for value, share in choices:
        ball -= share
        if ball < 0:
            return value
    return choices[-1][0]


def _shop(product: np.ndarray, frame: Frame, rng: np.random.Generator) -> np.ndarray:
    canvas = np.empty((frame.canvas_height, frame.canvas_width, 3), np.float32)
    canvas[:] = rng.uniform(246, 255)
    if rng.random() < 0.25:
        # A faint studio sweep: lighter above, a tinge of colour below.
        tint = (
            1
            - rng.uniform(0, 0.09, 3).astype(np.float32)
            * np.linspace(0, 1, frame.canvas_height, dtype=np.float32)[:, None]
        )
        canvas *= tint[:, None]
    size = rng.uniform(0.36, 0.7)
    angle = rng.normal(0, 8.0) if rng.random() < 0.7 else rng.uniform(-40, 40)
    lean = 0.03
    places = [(rng.uniform(-1, 1), rng.uniform(-1, 1))]
    if rng.random() < 0.12:
        side = 1 if rng.random() < 0.5 else -1
        size *= 0.86
        shift = side * rng.uniform(0.22, 0.4)
        places = [(-1.1 * shift, -0.35), (1.1 * shift, 0.35)]
    for place in places:
        pose = camera.pose(product.shape, frame.canvas_height, frame.canvas_width, size, place, angle, lean, rng)
        camera.lay(canvas, product, pose, shadow=rng.uniform(0.1, 0.4), spread=0.03, drop=(0.0, 0.02))
    if rng.random() < 0.3:
        _add_banner(canvas, rng)
    if rng.random() < 0.25:
        _add_badge(canvas, rng)
    return canvas


def _add_banner(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """The frame or the strip with a price that shops print over their photos; in place."""
    height, width = canvas.shape[:2]
    colour = np.float32(PROMOTION_COLOURS[rng.integers(len(PROMOTION_COLOURS))])
    if rng.random() < 0.35:
        edge = max(2, round(rng.uniform(0.02, 0.05) * height))
        for part in (canvas[:edge], canvas[-edge:], canvas[:, :edge], canvas[:, -edge:]):
            part[:] = colour
        return
    thick = round(rng.uniform(0.10, 0.18) * height)
    top = height - thick if rng.random() < 0.7 else 0
    canvas[top : top + thick] = colour * np.linspace(1, rng.uniform(0.75, 1), width, dtype=np.float32)[:, None]
    word = ("ONLY 9.90", "BEST PRICE", "FREE SHIPPING", "2 FOR 1", "NEW IN STORE", "TODAY 4.49")[rng.integers(6)]
    mask = artwork.text_mask(word, max(5, round(0.7 * thick)), round(0.8 * width)).astype(np.float32)[..., None] / 255
    left, high = round(rng.uniform(0.04, 0.15) * width), mask.shape[0]
    part = canvas[top + (thick - high) // 2 :][:high, left : left + mask.shape[1]]
    part += (np.float32(252) - part) * mask[: part.shape[0], : part.shape[1]]


def _add_badge(canvas: np.ndarray, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    radius = rng.uniform(0.1, 0.15) * min(height, width)
    x = radius * 1.15 if rng.random() < 0.5 else width - radius * 1.15
    y = radius * 1.15 if rng.random() < 0.7 else height - radius * 1.15
    colour = PROMOTION_COLOURS[rng.integers(len(PROMOTION_COLOURS))]
    word = ("-20%", "NEW", "2+1", "BIO", "SALE", "-50%")[rng.integers(6)]
    cv2.circle(canvas, (round(x * 16), round(y * 16)), round(radius * 16), colour, -1, cv2.LINE_AA, shift=4)
    mask = artwork.text_mask(word, max(5, round(0.8 * radius)), round(1.6 * radius)).astype(np.float32)[..., None] / 255
    top, left = round(y - mask.shape[0] / 2), round(x - mask.shape[1] / 2)
    part = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    part += (255 - part) * mask


def _customer(product: np.ndarray, frame: Frame, rng: np.random.Generator) -> np.ndarray:
    scene = _draw(rng, SCENES)
    canvas = _backdrop(scene, frame, rng)
    size = rng.uniform(0.42, 0.76)
    lying = scene == "lying"
    angle = rng.normal(0, 30 if lying else 14)
    place = (rng.uniform(-1, 1), rng.uniform(-1, 1))
    shape = canvas.shape[:2]
    if scene in ("table", "shelf"):
        _add_neighbours(canvas, scene, rng)
    pose = camera.pose(product.shape, *shape, size, place, angle, 0.09, rng)
    if scene == "shelf":
        for side in (-1, 1):
            if rng.random() < 0.6:
                beside = (place[0] + side * rng.uniform(1.0, 1.5), place[1])
                camera.lay(
                    canvas,
                    product,
                    camera.pose(product.shape, *shape, size * 0.97, beside, angle, 0.06, rng),
                    0.3,
                    0.03,
                    (0.01, 0.01),
                )
    skin = np.float32(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * np.float32(rng.uniform(0.85, 1.05))
    if scene == "hand":
        _add_arm(canvas, pose, skin, rng)
    camera.lay(canvas, product, pose, rng.uniform(0.3, 0.6), 0.04, (rng.uniform(-0.05, 0.05), 0.03))
    if scene == "hand":
        _add_fingers(canvas, pose, skin, rng)
    elif rng.random() < 0.25:
        _add_clutter(canvas, rng)
    return canvas


def _backdrop(scene: str, frame: Frame, rng: np.random.Generator) -> np.ndarray:
    height, width = frame.canvas_height, frame.canvas_width
    if scene == "hand" and rng.random() < 0.7:
        return _cut(backdrops.room(int(rng.integers(backdrops.NUM_ROOMS))), height, width, rng, 0.5)
    if scene == "lying" or scene == "hand":
        return _cut(backdrops.surface(int(rng.integers(backdrops.NUM_SURFACES))), height, width, rng, 0.5)
    wall = _cut(
        backdrops.room(int(rng.integers(backdrops.NUM_ROOMS)))
        if scene == "table" and rng.random() < 0.5
        else backdrops.surface(int(rng.integers(backdrops.NUM_SURFACES))),
        *(height, width, rng, 0.6),
    )
    wall = cv2.GaussianBlur(wall, (0, 0), 0.012 * height * rng.uniform(0.3, 1)) * rng.uniform(0.6, 1.0)
    horizon = round(rng.uniform(0.45, 0.85) * height)
    table = _cut(backdrops.surface(int(rng.integers(backdrops.NUM_SURFACES))), height, width, rng, 0.5)
    # The table recedes: its far edge is squeezed to half of its width.
    source = np.float32([(0.25 * width, 0), (0.75 * width, 0), (width, height), (0, height)])
    target = np.float32([(0, horizon), (width, horizon), (1.25 * width, height), (-0.25 * width, height)])
    matrix = cv2.getPerspectiveTransform(source, target)
    receding = cv2.warpPerspective(
        table, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    wall[horizon:] = receding[horizon:]
    wall[horizon : horizon + max(1, height // 60)] *= 0.75
    return wall


def _cut(texture: np.ndarray, height: int, width: int, rng: np.random.Generator, least: float) -> np.ndarray:
    """A random part of a texture, turned, tinted and brought to size; a new float32[height, width, 3]."""
    side = texture.shape[0]
    share = rng.uniform(least, 1.0)
    high, wide = (
        (share * side, share * side * width / height)
        if width < height
        else (share * side * height / width, share * side)
    )
    top, left = int(rng.uniform(0, side - high)), int(rng.uniform(0, side - wide))
    part = texture[top : top + int(high), left : left + int(wide)]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    part = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_LINEAR)
    return part * (rng.uniform(0.75, 1.1) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)


def _add_neighbours(canvas: np.ndarray, scene: str, rng: np.random.Generator) -> None:
    """Products of no class, behind the product and beside it; in place."""
    number = int(rng.integers(2, 6)) if scene == "shelf" else int(rng.integers(0, 3))
    for _ in range(number):
        other = backdrops.stranger(int(rng.integers(backdrops.NUM_STRANGERS)))
        side = 1 if rng.random() < 0.5 else -1
        place = (side * rng.uniform(0.7, 1.7), rng.uniform(-1.0, 0.3))
        pose = camera.pose(other.shape, *canvas.shape[:2], rng.uniform(0.3, 0.5), place, rng.normal(0, 4), 0.05, rng)
        camera.lay(canvas, other, pose, 0.35, 0.03, (0.01, 0.01), dim=rng.uniform(0.6, 0.95))


def _add_clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Something that lies in front of a corner of the product, or a leaf of a plant; in place."""
    height, width = canvas.shape[:2]
    side = 1 if rng.random() < 0.5 else -1
    if rng.random() < 0.6:
        other = backdrops.stranger(int(rng.integers(backdrops.NUM_STRANGERS)))
        place = (side * rng.uniform(1.0, 1.6), rng.uniform(0.8, 1.7))
        pose = camera.pose(other.shape, height, width, rng.uniform(0.25, 0.42), place, rng.normal(0, 25), 0.08, rng)
        camera.lay(canvas, other, pose, 0.45, 0.03, (0.0, 0.02))
        return
    mask = np.zeros((height, width), np.uint8)
    stem = np.array([width * (0.5 + 0.5 * side), height * rng.uniform(0, 1)])
    for _ in range(int(rng.integers(2, 5))):
        tip = stem + np.array([-side * rng.uniform(0.1, 0.3) * width, rng.uniform(-0.25, 0.25) * height])
        middle, slant = (stem + tip) / 2, float(np.degrees(np.arctan2(*(tip - stem)[::-1])))
        axes = (round(float(np.hypot(*(tip - stem))) / 2), max(2, round(0.03 * height)))
        cv2.ellipse(mask, (round(float(middle[0])), round(float(middle[1]))), axes, slant, 0, 360, 255, -1, cv2.LINE_AA)
    share = cv2.GaussianBlur(mask, (0, 0), 0.006 * height).astype(np.float32)[..., None] / 255
    canvas += share * (np.float32((58, 120, 60)) * np.float32(rng.uniform(0.6, 1.3)) - canvas)


def _add_arm(canvas: np.ndarray, pose: np.ndarray, skin: np.ndarray, rng: np.random.Generator) -> None:
    """The hand behind the product and the arm that comes from below; in place."""
    height, width = canvas.shape[:2]
    across = float(np.linalg.norm(pose[1] - pose[0]))
    palm = pose.mean(axis=0) + (pose[3] - pose[0]) * rng.uniform(0.1, 0.3)
    elbow = np.array([width * rng.uniform(0.1, 0.9), 1.3 * height])
    thick = min(0.62 * across, 0.3 * height)
    _add_limb(canvas, elbow, palm, thick, skin * np.float32(0.9))


def _add_fingers(canvas: np.ndarray, pose: np.ndarray, skin: np.ndarray, rng: np.random.Generator) -> None:
    """Finger tips round one edge of the product and a thumb round the other; in place."""
    edges = [(pose[0], pose[3]), (pose[1], pose[2])]
    near, far = edges if rng.random() < 0.5 else edges[::-1]
    down = pose[3] - pose[0]
    length = float(np.linalg.norm(down))
    inward = (far[0] - near[0]) / max(1.0, float(np.linalg.norm(far[0] - near[0])))
    thick = min(0.12 * length, 0.085 * canvas.shape[0])
    start = rng.uniform(0.4, 0.6)
    for i, grip in enumerate((0.75, 1.1, 1.0, 0.6)):
        knuckle = near[0] + (near[1] - near[0]) * (start + 0.95 * i * thick / length)
        tip = knuckle + inward * thick * grip * rng.uniform(0.8, 1.3)
        _add_limb(canvas, knuckle - inward * 0.9 * thick, tip, thick, skin)
    thumb = far[0] + (far[1] - far[0]) * (start + rng.uniform(-0.05, 0.1))
    _add_limb(canvas, thumb + inward * 0.9 * thick + 0.1 * down, thumb - inward * 1.0 * thick, 1.25 * thick, skin)


def _add_limb(canvas: np.ndarray, first: np.ndarray, last: np.ndarray, thick: float, skin: np.ndarray) -> None:
    """A round-ended stroke from `first` to `last`, shaded as a cylinder, with a soft shadow; in place."""
    mask = np.zeros(canvas.shape[:2], np.uint8)
    points = [tuple(round(float(value) * 16) for value in point) for point in (first, last)]
    cv2.line(mask, *points, 255, max(2, round(thick)), cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.24 * thick)).astype(np.float32)[..., None] / 255
    share = cv2.GaussianBlur(mask, (0, 0), 0.7).astype(np.float32)[..., None] / 255
    canvas *= 1 - 0.35 * soft * (1 - share)
    canvas += share * (skin * (0.5 + 0.55 * soft) - canvas)
