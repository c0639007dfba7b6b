"""Between a product and its photo: pose, shadow, light, lens, sensor, JPEG."""

import cv2
import numpy as np


def pose(
    product_shape: tuple[int, ...],
    height: int,
    width: int,
    size: float,
    place: tuple[float, float],
    angle: float,
    lean: float,
    rng: np.random.Generator,
    most: float = 1.06,
) -> np.ndarray:
    """Where the four corners of a product come to lie on a canvas.

    Args:
      product_shape: (h, w, ...) of the product's picture.
      height, width: of the canvas, pixels.
      size: of the product: the root of its picture's area relative to the canvas's, as far as `most` allows.
      place: (x, y) of its middle: 0 the canvas's, -1 and 1 the places where its upright box touches the canvas's edges
        (where there is little room to move, a tenth of the canvas).
      angle: degrees, in the plane.
      lean: perspective: standard deviation of how far corners move, relative to the product's size.
      rng: draws the perspective.
      most: the product's height and width are at most so many times the canvas's.

    Returns:
      float64[4, 2]: x, y of top left, top right, bottom right, bottom left.
    """
    high, wide = product_shape[:2]
    # By area: a slim bottle and a wide box then show labels of like size.
    scale = min(size * np.sqrt(height * width / (high * wide)), most * height / high, most * width / wide)
    corners = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)]) * (scale / 2)
    # A tilt towards the viewer widens one end, a turn shortens one side; a little of both.
    keystone, turn = np.clip(rng.normal(0, lean, 2), -2 * lean, 2 * lean)
    corners[:, 0] *= 1 + keystone * np.array([1, 1, -1, -1])
    corners[:, 1] *= 1 + turn * np.array([1, -1, -1, 1])
    radians = np.radians(angle)
    rotation = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    room = np.maximum([(width - wide * scale) / 2, (height - high * scale) / 2], [0.1 * width, 0.1 * height])
    return corners @ rotation.T + np.array([width / 2, height / 2]) + np.asarray(place) * room


def lay(
    canvas: np.ndarray,
    product: np.ndarray,
    corners: np.ndarray,
    shadow: float,
    spread: float,
    drop: tuple[float, float],
    dim: float = 1.0,
) -> None:
    """Lays a product, uint8[h, w, 4] premultiplied, onto a canvas, float32[H, W, 3], in place.

    Args:
      canvas, product: pictures.
      corners: from `pose`.
      shadow: strength of the shadow, 0..1.
      spread: softness of the shadow, relative to the canvas's height.
      drop: (x, y) of the shadow against the product, relative to the canvas's height.
      dim: light that the product gets.
    """
    height, width = canvas.shape[:2]
    shrink = np.linalg.norm(corners[3] - corners[0]) / product.shape[0]
    if shrink < 0.6:
        size = max(4, round(product.shape[1] * shrink * 1.2)), max(4, round(product.shape[0] * shrink * 1.2))
        product = cv2.resize(product, size, interpolation=cv2.INTER_AREA)
    high, wide = product.shape[:2]
    source = np.float32([(0, 0), (wide, 0), (wide, high), (0, high)]) - 0.5
    matrix = cv2.getPerspectiveTransform(source, np.float32(corners) - 0.5)
    warped = cv2.warpPerspective(product, matrix, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    cover = warped[..., 3] / 255
    if shadow > 0:
        quarter = cv2.resize(cover, (max(4, width // 4), max(4, height // 4)), interpolation=cv2.INTER_AREA)
        shift = np.float32([[1, 0, drop[0] * height / 4], [0, 1, drop[1] * height / 4]])
        quarter = cv2.warpAffine(quarter, shift, quarter.shape[1::-1])
        quarter = cv2.GaussianBlur(quarter, (0, 0), max(0.6, spread * height / 4))
        canvas *= (1 - shadow * cv2.resize(quarter, (width, height), interpolation=cv2.INTER_LINEAR))[..., None]
    canvas *= (1 - cover)[..., None]
    canvas += warped[..., :3] * np.float32(dim)


def develop(canvas: np.ndarray, height: int, width: int, amateur: bool, rng: np.random.Generator) -> np.ndarray:
    """Light, lens and sensor: float32[H, W, 3] -> uint8[height, width, 3]. `amateur` photos suffer, others hardly."""
    if amateur:
        canvas = _blur(canvas, rng)
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    strength = 1.0 if amateur else 0.5
    gain = 1 + strength * np.clip(rng.normal(0.04, 0.23), -0.4, 0.35)
    cast = np.float32([1 + strength * rng.normal(0, 0.08), 1.0, 1 + strength * rng.normal(0, 0.11)])
    if amateur:
        y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
        slope = rng.normal(0, 0.12, 2).astype(np.float32)
        image *= (1 + slope[0] * x + slope[1] * y - np.float32(rng.uniform(0, 0.12)) * (x * x + y * y))[..., None]
        image *= np.float32(gain) * cast
        if rng.random() < 0.15:
            # Light in the lens lifts the blacks.
            image += (255 - image) * np.float32(rng.uniform(0.05, 0.2))
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 7))
    else:
        # White stays white: a shop's photo is retouched, only the product is lit in other ways.
        white = (image.min(axis=2, keepdims=True) / 255) ** 6
        image *= white + (1 - white) * np.float32(gain) * cast
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _blur(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ball = rng.random()
    reach = canvas.shape[0] / 64
    if ball < 0.15:
        return cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 0.7) * reach))
    if ball < 0.23:
        length = max(2, round(rng.uniform(1.0, 2.2) * reach))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        slant = rng.uniform(0, np.pi)
        tip = (round(length + length / 2 * np.cos(slant)), round(length + length / 2 * np.sin(slant)))
        tail = (round(length - length / 2 * np.cos(slant)), round(length - length / 2 * np.sin(slant)))
        cv2.line(kernel, tail, tip, 1.0, 1)
        return cv2.filter2D(canvas, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return canvas


def encode_jpeg(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """JPEG of an RGB picture, uint8[h, w, 3], at a quality of 80..95."""
    quality = int(rng.integers(80, 96))
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {image.shape} as JPEG")
    return data.tobytes()
