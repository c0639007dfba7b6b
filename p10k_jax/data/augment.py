"""Views cut on the device out of uint8 canvases: crop, flip, resize, change colours and shapes, normalise, erase.

Every draw depends on the row's key alone: the same views on any number of devices, and in any part of a batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from p10k_jax.data.crops import (
    centre_box,
    crop_and_resize,
    crop_and_resize_padded,
    random_resized_crop_box,
)
from p10k_jax.data.erasing import Erasing, erase
from p10k_jax.data.image_ops import grey
from p10k_jax.data.policies import AugMix, RandAugment, apply_augmix, apply_randaugment
from p10k_jax.weights.preprocessing import IMAGENET


class Normalisation(NamedTuple):
    """Channel statistics on the scale 0..1."""

    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]


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
    for factor, target in zip(factors, (jnp.zeros_like, _mean_grey, grey), strict=True):
        image = jnp.clip(target(image) + factor * (image - target(image)), 0.0, 255.0)
    return image


def _mean_grey(image: Float[Array, "n n 3"]) -> Float[Array, ""]:
    return grey(image).mean()


def normalise(images: Float[Array, "*b n n 3"], statistics: Normalisation) -> Float[Array, "*b n n 3"]:
    """0..255 to zero mean and unit variance a channel."""
    mean, std = jnp.asarray(statistics.mean) * 255.0, jnp.asarray(statistics.std) * 255.0
    return (images - mean) / std


def denormalise(images: Float[Array, "*b n n 3"], statistics: Normalisation) -> UInt8[Array, "*b n n 3"]:
    """Back to 0..255, rounded and clipped, to be looked at."""
    mean, std = jnp.asarray(statistics.mean) * 255.0, jnp.asarray(statistics.std) * 255.0
    return jnp.clip(jnp.round(images * std + mean), 0.0, 255.0).astype(jnp.uint8)


# One key a row, so that a part of a batch has the same views as in the whole. Evaluation ignores the keys.
Views = Callable[[PRNGKeyArray, UInt8[Array, "b s s 3"], Float[Array, " b"]], Float[Array, "b n n 3"]]


def training_views(
    *,
    image_size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: float,
    statistics: Normalisation,
    pad: bool = False,
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0),
    grey_probability: float = 0.0,
    randaugment: RandAugment | None = None,
    augmix: AugMix | None = None,
    erasing: Erasing | None = None,
) -> Views:
    """Random-resized crop, flip, RandAugment or AugMix, colour jitter, greyscale, normalise, erase; in this order.

    Args:
        image_size: Side of the view in pixels.
        scale, ratio: Of the crop, see `random_resized_crop_box`.
        flip: Probability of a horizontal flip.
        statistics: Normalisation.
        pad: Crop out of the smallest square that holds the picture, which is filled with the mean (zero in the view):
            then the largest crop shows all of a tall or wide product, but a small one may show little else than
            margin.
        jitter: Strengths, see `colour_jitter`.
        grey_probability: Of a picture losing its colour.
        randaugment, augmix: One of them at most. Warps draw in the mean.
        erasing: A rectangle replaced by noise or zero.

    Returns:
        `(keys, canvases, aspects) -> images`; all that is drawn for a row follows from the row's key. What is off is
        not computed.

    Raises:
        ValueError: a scale outside 0 < least <= largest <= 1, a ratio outside 0 < least <= largest, a probability
            outside 0..1, jitter that is not three strengths of at least 0, both RandAugment and AugMix, or a setting
            of theirs or of erasing out of range.
    """
    randaugment, augmix, erasing = randaugment or RandAugment(0), augmix or AugMix(0), erasing or Erasing(0.0)
    _check_views(scale, ratio, {"flip": flip, "grey": grey_probability}, jitter)
    for settings in (randaugment, augmix, erasing):
        settings.check()
    if randaugment.num_ops and augmix.width:
        raise ValueError(
            f"augment.randaugment.num_ops={randaugment.num_ops} and augment.augmix.width={augmix.width}: "
            "set one of them to 0 (off)."
        )
    mean = 255.0 * np.array(statistics.mean, np.float32)

    def crop(key, canvas, aspect, mirror):
        if not pad:
            box = random_resized_crop_box(key, aspect, scale=scale, ratio=ratio)
            return crop_and_resize(canvas, box, image_size, mirror=mirror)
        box = random_resized_crop_box(key, jnp.ones_like(aspect), scale=scale, ratio=ratio)
        return crop_and_resize_padded(canvas, box, image_size, aspect=aspect, fill=mean, mirror=mirror)

    def view(key, canvas, aspect):
        # A number for each draw: what one setting draws does not depend on the others.
        draw = functools.partial(jax.random.fold_in, key)
        image = crop(draw(0), canvas, aspect, jax.random.bernoulli(draw(1), flip))
        if randaugment.num_ops:
            image = apply_randaugment(draw(3), image, randaugment, fill=mean)
        if augmix.width:
            image = apply_augmix(draw(4), image, augmix, fill=mean)
        if any(jitter):
            image = colour_jitter(draw(2), image, strengths=jitter)
        if grey_probability:
            image = jnp.where(jax.random.bernoulli(draw(5), grey_probability), grey(image), image)
        image = normalise(image, statistics)
        return erase(draw(6), image, erasing) if erasing.probability else image

    return jax.vmap(view)


def _check_views(
    scale: tuple[float, float], ratio: tuple[float, float], probabilities: dict[str, float], jitter: tuple[float, ...]
) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"augment.crop_scale={scale} must be two areas with 0 < least <= largest <= 1.")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"augment.crop_ratio={ratio} must be two ratios with 0 < least <= largest.")
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise ValueError(f"augment.{name}={value} must be a probability, 0..1.")
    if len(jitter) != 3 or min(jitter) < 0:
        raise ValueError(f"augment.jitter={jitter} must be three strengths of at least 0.")


def mirrored(views: Views) -> Views:
    """The same views, left and right swapped."""
    return lambda keys, canvases, aspects: views(keys, canvases, aspects)[:, :, ::-1]


def evaluation_views(*, image_size: int, crop: float, statistics: Normalisation, pad: bool = False) -> Views:
    """`evaluation_crops`, normalised; deterministic, the keys unused."""
    crops = evaluation_crops(image_size=image_size, crop=crop, mean=statistics.mean, pad=pad)

    def views(keys, canvases, aspects):
        del keys
        return normalise(crops(canvases, aspects), statistics)

    return views


def evaluation_crops(
    *, image_size: int, crop: float, mean: tuple[float, float, float], pad: bool = False
) -> Callable[[UInt8[Array, "b s s 3"], Float[Array, " b"]], Float[Array, "b n n 3"]]:
    """What the model is shown in evaluation, 0..255, not yet normalised.

    Args:
        image_size: Side of the view in pixels.
        crop: Side of the centred square as a fraction of the shorter side, in (0, 1]; 0 shows the whole picture,
            squashed to a square, so that nothing of a tall or wide product is cut away.
        mean: Of the channels, on the scale 0..1.
        pad: The square is centred in the smallest one that holds the picture, filled with the mean, and `crop` a
            fraction of that one's side; 0 shows the whole, undistorted.

    Returns:
        `(canvases, aspects) -> images`.

    Raises:
        ValueError: a crop outside 0..1.
    """
    if not 0 <= crop <= 1:
        raise ValueError(f"eval.crop={crop} is outside 0..1.")
    fill = 255.0 * np.array(mean, np.float32)

    def view(canvas, aspect):
        if pad:
            box = centre_box(jnp.ones_like(aspect), fraction=crop or 1.0)
            return crop_and_resize_padded(canvas, box, image_size, aspect=aspect, fill=fill)
        box = centre_box(aspect, fraction=crop) if crop else jnp.array([0.0, 0.0, 1.0, 1.0])
        return crop_and_resize(canvas, box, image_size)

    return jax.vmap(view)
