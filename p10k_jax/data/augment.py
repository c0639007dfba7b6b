"""Views cut on the device out of uint8 canvases: crop, resize, flip, normalise.

A canvas holds a whole picture squashed to a square (`p10k_jax.data.decode`). Boxes are given as fractions of the
picture, so an undistorted crop of the picture is a box whose sides differ on the canvas. Every draw depends on the key
and the row alone: the same views on any number of devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_ATTEMPTS = 10


class Normalisation(NamedTuple):
    """Channel statistics on the scale 0..1."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def random_resized_crop_box(
    key: PRNGKeyArray, aspect: Float[Array, ""], *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Float[Array, "4"]:
    """Inception's random crop (Szegedy et al., arXiv 1409.4842; torchvision's `RandomResizedCrop`).

    Args:
        key: Of this row.
        aspect: Width of the picture divided by its height.
        scale: Least and largest area of the crop, as fractions of the picture's.
        ratio: Least and largest width / height of the crop, drawn log-uniformly.

    Returns:
        (top, left, height, width) as fractions of the picture's sides. The first of ten draws that fits; if none
        does, the largest centred crop whose ratio is in range.
    """
    key_area, key_ratio, key_place = jax.random.split(key, 3)
    area = jax.random.uniform(key_area, (_ATTEMPTS,), minval=scale[0], maxval=scale[1])
    log_ratio = jax.random.uniform(key_ratio, (_ATTEMPTS,), minval=np.log(ratio[0]), maxval=np.log(ratio[1]))
    drawn_ratio = jnp.exp(log_ratio)
    # Of a picture with height 1 and width `aspect`: crop width = sqrt(area * aspect * ratio); as fractions of sides:
    widths, heights = jnp.sqrt(area * drawn_ratio / aspect), jnp.sqrt(area * aspect / drawn_ratio)
    fits = (widths <= 1.0) & (heights <= 1.0)
    first = jnp.argmax(fits)
    clipped = jnp.clip(aspect, ratio[0], ratio[1])
    height = jnp.where(fits.any(), heights[first], jnp.minimum(1.0, aspect / clipped))
    width = jnp.where(fits.any(), widths[first], jnp.minimum(1.0, clipped / aspect))
    place = jnp.where(fits.any(), jax.random.uniform(key_place, (2,)), 0.5)
    return jnp.stack([place[0] * (1 - height), place[1] * (1 - width), height, width])


def centre_box(aspect: Float[Array, ""], *, fraction: float) -> Float[Array, "4"]:
    """The centred square whose side is `fraction` of the picture's shorter side: (top, left, height, width)."""
    height = fraction * jnp.minimum(1.0, aspect)
    width = fraction * jnp.minimum(1.0, 1.0 / aspect)
    return jnp.stack([(1 - height) / 2, (1 - width) / 2, height, width])


def crop_and_resize(canvas: UInt8[Array, "s s 3"], box: Float[Array, "4"], size: int) -> Float[Array, "n n 3"]:
    """The box of the canvas, resampled to size x size with an antialiased triangle filter; float32 in 0..255."""
    origin, extent = box[:2] * canvas.shape[0], box[2:] * canvas.shape[0]
    scale = size / extent
    resized = jax.image.scale_and_translate(
        canvas.astype(jnp.float32), (size, size, 3), (0, 1), scale, -origin * scale, method="linear", antialias=True
    )
    return jnp.clip(resized, 0.0, 255.0)


def colour_jitter(
    key: PRNGKeyArray, image: Float[Array, "n n 3"], *, strengths: tuple[float, float, float]
) -> Float[Array, "n n 3"]:
    """Random brightness, contrast and saturation, in this order; as Pillow's `ImageEnhance` and torchvision blend.

    Args:
        key: Of this row.
        image: 0..255.
        strengths: Of the three; a factor is drawn from [1 - strength, 1 + strength], not below 0.

    Returns:
        The picture, clipped to 0..255 after each.
    """
    least = jnp.maximum(0.0, 1.0 - jnp.asarray(strengths))
    factors = jax.random.uniform(key, (3,), minval=least, maxval=1.0 + jnp.asarray(strengths))
    for factor, target in zip(factors, (jnp.zeros_like, _mean_grey, _grey), strict=True):
        image = jnp.clip(target(image) + factor * (image - target(image)), 0.0, 255.0)
    return image


def _grey(image: Float[Array, "n n 3"]) -> Float[Array, "n n 1"]:
    """Luma of ITU-R 601."""
    # Elementwise: a matrix product would have fewer bits on GPU and TPU.
    return 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def _mean_grey(image: Float[Array, "n n 3"]) -> Float[Array, ""]:
    return _grey(image).mean()


def normalise(images: Float[Array, "b n n 3"], statistics: Normalisation) -> Float[Array, "b n n 3"]:
    """0..255 to zero mean and unit variance a channel."""
    mean, std = jnp.asarray(statistics.mean) * 255.0, jnp.asarray(statistics.std) * 255.0
    return (images - mean) / std


Views = Callable[[PRNGKeyArray, UInt8[Array, "b s s 3"], Float[Array, " b"]], Float[Array, "b n n 3"]]


def training_views(
    *,
    image_size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
    statistics: Normalisation,
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Views:
    """Random-resized crop, horizontal flip with probability `flip`, colour jitter, normalise.

    Returns:
        `(key, canvases, aspects) -> images`.

    Raises:
        ValueError: a scale outside 0 < least <= largest <= 1, a ratio outside 0 < least <= largest, a probability
            outside 0..1, or jitter that is not three strengths of at least 0.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"augment.crop_scale={scale} must be two areas with 0 < least <= largest <= 1.")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"augment.crop_ratio={ratio} must be two ratios with 0 < least <= largest.")
    if not 0 <= flip <= 1:
        raise ValueError(f"augment.flip={flip} must be a probability, 0..1.")
    if len(jitter) != 3 or min(jitter) < 0:
        raise ValueError(f"augment.jitter={jitter} must be three strengths of at least 0.")

    def view(key, canvas, aspect):
        key_box, key_flip = jax.random.split(key)
        image = crop_and_resize(canvas, random_resized_crop_box(key_box, aspect, scale=scale, ratio=ratio), image_size)
        image = jnp.where(jax.random.bernoulli(key_flip, flip), image[:, ::-1], image)
        return colour_jitter(jax.random.fold_in(key, 2), image, strengths=jitter) if any(jitter) else image

    def views(key, canvases, aspects):
        keys = jax.random.split(key, len(canvases))
        return normalise(jax.vmap(view)(keys, canvases, aspects), statistics)

    return views


def evaluation_views(*, image_size: int, crop: float, statistics: Normalisation) -> Views:
    """Deterministic views, the key unused.

    Args:
        image_size: Side of the view in pixels.
        crop: Side of the centred square as a fraction of the shorter side, in (0, 1]; 0 shows the whole picture,
            squashed to a square, so that nothing of a tall or wide product is cut away.
        statistics: Normalisation.

    Raises:
        ValueError: a crop outside 0..1.
    """
    if not 0 <= crop <= 1:
        raise ValueError(f"eval.crop={crop} is outside 0..1.")

    def view(canvas, aspect):
        box = centre_box(aspect, fraction=crop) if crop else jnp.array([0.0, 0.0, 1.0, 1.0])
        return crop_and_resize(canvas, box, image_size)

    def views(key, canvases, aspects):
        del key
        return normalise(jax.vmap(view)(canvases, aspects), statistics)

    return views
