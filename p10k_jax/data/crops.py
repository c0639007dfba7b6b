"""Boxes in a picture, and their resampling out of a canvas.

A canvas holds a whole picture squashed to a square (`p10k_jax.data.decode`). Boxes are given as fractions of the
picture, so an undistorted crop of the picture is a box whose sides differ on the canvas.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

_ATTEMPTS = 10


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


def crop_and_resize(
    canvas: UInt8[Array, "s s 3"], box: Float[Array, "4"], size: int, *, mirror: bool | Bool[Array, ""] = False
) -> Float[Array, "n n 3"]:
    """The box of the canvas, resampled to size x size with an antialiased triangle filter; float32 in 0..255.

    As `jax.image.scale_and_translate`, which cannot `mirror`: left and right swapped, at no cost.
    """
    rows = _weights(canvas.shape[0], box[0], box[2], size)
    columns = _weights(canvas.shape[0], box[1], box[3], size, mirror=mirror)
    return jnp.clip(_resampled(canvas, rows, columns), 0.0, 255.0)


def crop_and_resize_padded(
    canvas: UInt8[Array, "s s 3"],
    box: Float[Array, "4"],
    size: int,
    *,
    aspect: Float[Array, ""],
    fill: Float[Array, "3"],
    mirror: bool | Bool[Array, ""] = False,
) -> Float[Array, "n n 3"]:
    """As `crop_and_resize`, of the picture padded to a square: nothing of it is distorted.

    Args:
        canvas: The whole picture, squashed.
        box: (top, left, height, width) as fractions of the smallest square that holds the picture centred.
        size: Side of the result in pixels.
        aspect: Width of the picture divided by its height.
        fill: Colour of the margins, 0..255. A pixel at the picture's rim blends both, as if padded before resampled.
        mirror: Swaps left and right.
    """
    held = jnp.minimum(1.0, 1.0 / aspect), jnp.minimum(1.0, aspect)  # of the square's height and width
    rows = _padded_weights(canvas.shape[0], box[0], box[2], held[0], size)
    columns = _padded_weights(canvas.shape[0], box[1], box[3], held[1], size, mirror=mirror)
    picture = _resampled(canvas, rows, columns)
    covered = rows.sum(axis=1)[:, None, None] * columns.sum(axis=1)[None, :, None]
    return jnp.clip(picture + (1.0 - jnp.minimum(covered, 1.0)) * fill, 0.0, 255.0)


def _resampled(
    canvas: UInt8[Array, "s s 3"], rows: Float[Array, "n s"], columns: Float[Array, "n s"]
) -> Float[Array, "n n 3"]:
    weigh = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    return weigh("ys,stc,xt->yxc", rows, canvas.astype(jnp.float32), columns)


def _weights(
    side: int, start: Float[Array, ""], length: Float[Array, ""], size: int, *, mirror: bool | Bool[Array, ""] = False
) -> Float[Array, "size side"]:
    """Row i: what each of `side` pixels of the canvas gives to pixel i of `size`, by a triangle filter.

    `start` and `length` are fractions of the canvas.
    """
    step = length * side / size
    centre = _swapped(start * side + (jnp.arange(size) + 0.5) * step - 0.5, mirror)
    weights = _triangles(centre, jnp.maximum(step, 1.0), side)
    return weights / weights.sum(axis=1, keepdims=True)


def _padded_weights(
    side: int,
    start: Float[Array, ""],
    length: Float[Array, ""],
    held: Float[Array, ""],
    size: int,
    *,
    mirror: bool | Bool[Array, ""] = False,
) -> Float[Array, "size side"]:
    """As `_weights`, of a padded canvas.

    The canvas is the middle `held` of an axis of which `start` and `length` are fractions. A row sums to 1 with the
    weights of the margins' pixels, so to less where the filter reaches over the picture's rim.
    """
    margin = (1.0 / held - 1.0) * side / 2  # pixels of the canvas
    step = length * side / held / size
    radius = jnp.maximum(step, 1.0)  # antialiased: never narrower than the distance of two samples
    centre = _swapped(start * side / held - margin + (jnp.arange(size) + 0.5) * step - 0.5, mirror)
    weights = _triangles(centre, radius, side)
    whole_margin = jnp.ceil(margin - 1e-3)
    return weights / _triangle_total(centre, radius, -whole_margin, side - 1 + whole_margin)[:, None]


def _swapped(values: Float[Array, " n"], mirror: bool | Bool[Array, ""]) -> Float[Array, " n"]:
    return jnp.where(mirror, values[::-1], values)


def _triangles(centre: Float[Array, " n"], radius: Float[Array, ""], side: int) -> Float[Array, "n side"]:
    return jnp.maximum(0.0, 1.0 - jnp.abs(centre[:, None] - jnp.arange(side)) / radius)


def _triangle_total(
    centre: Float[Array, " n"], radius: Float[Array, ""], least: Float[Array, ""], most: Float[Array, ""]
) -> Float[Array, " n"]:
    """The sum over the integers j from `least` to `most` of max(0, 1 - |centre - j| / radius): arithmetic series."""
    first, last = jnp.maximum(jnp.ceil(centre - radius), least), jnp.minimum(jnp.floor(centre + radius), most)
    middle = jnp.clip(jnp.floor(centre), first - 1, last)
    below, above = middle - first + 1, last - middle
    distances = below * (centre - (first + middle) / 2) + above * ((middle + 1 + last) / 2 - centre)
    return below + above - distances / radius
