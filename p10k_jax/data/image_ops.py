"""The operations of RandAugment and AugMix on the device, one drawn operation a picture.

Under `vmap` a `switch` over whole pictures computes all its branches. Here an operation is a few numbers, and every
picture goes through the same three stages, each the identity for operations that are not its own: one affine warp, one
table of 256 levels a channel, one blend. A stage that none of the allowed operations needs is left out.

Pictures are float32 in 0..255. Pillow rounds to whole levels after every operation; here the tables alone read whole
levels, and no operation rounds what it writes. The two differ by one level an operation.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Image = Float[Array, "n n 3"]

WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
TABLES = ("autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add")
BLENDS = ("brightness", "contrast", "colour", "sharpness")

MAX_MAGNITUDE = 10.0


def apply_operation(
    image: Image,
    names: Sequence[str],
    chosen: Int[Array, ""],
    magnitude: Float[Array, ""],
    sign: Float[Array, ""],
    *,
    fill: Float[Array, "3"],
    max_translation: float,
) -> Image:
    """Operation number `chosen` of `names`.

    Args:
        image: 0..255.
        names: Out of `WARPS`, `TABLES` and `BLENDS`, none twice.
        chosen: 0..len(names)-1, or -1 to leave the picture as it is.
        magnitude: 0..10; how far it goes as in timm's "increasing" set. 10 rotates by 30 degrees, shears by 0.3,
            translates by `max_translation`, keeps 1 bit (posterize; 4 at magnitude 0), inverts all levels (solarize;
            none at 0), adds 110 to levels below 128 (solarize_add) and blends by 1 +- 0.9; autocontrast, equalize and
            invert know no magnitude.
        sign: 1.0 or -1.0, the direction of warps and blends.
        fill: Colour (0..255) of what a warp draws in from outside.
        max_translation: As a fraction of the side.
    """
    names, amount, result = tuple(names), sign * magnitude / MAX_MAGNITUDE, image
    # All three read the same picture: one that reads what another wrote would have the compiler compute that again
    # for every pixel that it looks at.
    if any(name in names for name in WARPS):
        matrix = _select(names, chosen, _matrices(len(image), amount, max_translation))
        result = jnp.where(_is_one_of(names, chosen, WARPS), warp(image, matrix, fill), result)
    if any(name in names for name in TABLES):
        levels = jnp.rint(image).astype(jnp.int32)
        tables = {name: table for name, table in _tables(histogram(levels), magnitude).items() if name in names}
        one_hot = chosen == jnp.array([names.index(name) for name in tables])
        # A product, for it is computed once, before the pixels look it up.
        table = jnp.einsum("k,klc->lc", one_hot.astype(jnp.float32), jnp.stack([*tables.values()]), precision="highest")
        result = jnp.where(_is_one_of(names, chosen, TABLES), look_up(levels, table), result)
    if any(name in names for name in BLENDS):
        blended = blend(image, _select(names, chosen, _blended_with(image)), 1.0 + 0.9 * amount)
        result = jnp.where(_is_one_of(names, chosen, BLENDS), blended, result)
    return result


def _select(names: tuple[str, ...], chosen: Int[Array, ""], options: dict[str, Array]) -> Array:
    """The option of the operation that was chosen; any, if it is none of them."""
    options = {name: option for name, option in options.items() if name in names}
    (_, selected), *others = options.items()
    for name, option in others:
        selected = jnp.where(chosen == names.index(name), option, selected)
    return selected


def _is_one_of(names: tuple[str, ...], chosen: Int[Array, ""], kind: tuple[str, ...]) -> Bool[Array, ""]:
    return jnp.isin(chosen, jnp.array([names.index(name) for name in kind if name in names]))


def warp(image: Image, matrix: Float[Array, "6"], fill: Float[Array, "3"]) -> Image:
    """Pillow's `Image.transform` with AFFINE and BILINEAR.

    Args:
        image: The picture.
        matrix: (a, b, c, d, e, f): the pixel at (x, y) comes from (a x + b y + c, d x + e y + f), in pixels, a pixel's
            centre at a half.
        fill: Colour of pixels that come from outside.
    """
    side = len(image)
    across, down = jnp.arange(side) + 0.5, (jnp.arange(side) + 0.5)[:, None]
    x = matrix[0] * across + matrix[1] * down + matrix[2]
    y = matrix[3] * across + matrix[4] * down + matrix[5]
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_share, lower_share = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]

    pixels = image.reshape(-1, 3)

    def pixel(row, column):
        row, column = (jnp.clip(place, 0, side - 1).astype(jnp.int32) for place in (row, column))
        return pixels[row * side + column]

    upper, lower = (
        pixel(row, left) + right_share * (pixel(row, left + 1) - pixel(row, left)) for row in (top, top + 1)
    )
    return jnp.where(inside[..., None], upper + lower_share * (lower - upper), fill)


def _matrices(side: int, amount: Float[Array, ""], max_translation: float) -> dict[str, Float[Array, "6"]]:
    angle, shear, shift = jnp.deg2rad(30.0 * amount), 0.3 * amount, max_translation * side * amount
    cosine, sine, centre = jnp.cos(angle), jnp.sin(angle), side / 2
    rows = {
        # Anticlockwise about the centre.
        "rotate": (cosine, -sine, centre * (1 - cosine + sine), sine, cosine, centre * (1 - cosine - sine)),
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }
    return {name: jnp.stack([jnp.float32(value) for value in row]) for name, row in rows.items()}


def look_up(levels: Int[Array, "n n 3"], table: Float[Array, "256 3"]) -> Image:
    """Every level replaced by what its channel's table says."""
    return jnp.take_along_axis(table, levels.reshape(-1, 3), axis=0).reshape(levels.shape)


def _tables(counts: Int[Array, "256 3"], magnitude: Float[Array, ""]) -> dict[str, Float[Array, "256 3"]]:
    level, zero, found = jnp.arange(256.0)[:, None], jnp.zeros((256, 3)), counts > 0
    least, most = jnp.argmax(found, axis=0), 255 - jnp.argmax(found[::-1], axis=0)
    stretched = jnp.clip((level - least) * (255.0 / jnp.maximum(most - least, 1)), 0.0, 255.0)
    # Shares of 10 are taken last: a whole magnitude gives the whole number that it stands for.
    dropped_bits = jnp.minimum(4.0 + jnp.floor(magnitude * 4.0 / MAX_MAGNITUDE), 7.0)
    step = jnp.left_shift(1, dropped_bits.astype(jnp.int32)).astype(jnp.float32)
    threshold = 256.0 - jnp.floor(magnitude * 256.0 / MAX_MAGNITUDE)
    added = jnp.floor(magnitude * 110.0 / MAX_MAGNITUDE)
    return {
        "autocontrast": jnp.where(most > least, stretched, level),
        "equalize": equalizing_table(counts),
        "invert": 255.0 - level + zero,
        "posterize": jnp.floor(level / step) * step + zero,
        "solarize": jnp.where(level < threshold, level, 255.0 - level) + zero,
        "solarize_add": jnp.where(level < 128.0, jnp.minimum(level + added, 255.0), level) + zero,
    }


def histogram(levels: Int[Array, "n n 3"]) -> Int[Array, "256 3"]:
    """How often each level comes, a channel."""
    # CPUs count fast one by one, accelerators by comparing everything with everything.
    return jax.lax.platform_dependent(levels, cpu=_count_by_adding, default=_count_by_comparing)


def _count_by_adding(levels: Int[Array, "n n 3"]) -> Int[Array, "256 3"]:
    places = levels * 3 + jnp.arange(3)
    return jnp.zeros(256 * 3, jnp.int32).at[places.reshape(-1)].add(1).reshape(256, 3)


def _count_by_comparing(levels: Int[Array, "n n 3"]) -> Int[Array, "256 3"]:
    channels = levels.reshape(-1, 3).T
    return (channels[None] == jnp.arange(256)[:, None, None]).sum(axis=2, dtype=jnp.int32)


def equalizing_table(counts: Int[Array, "256 3"]) -> Float[Array, "256 3"]:
    """The table of Pillow's `ImageOps.equalize`: level to 255 times the share of pixels below it, in whole numbers."""
    below = jnp.cumsum(counts, axis=0) - counts
    # All pixels but those of the highest level that comes, in 255 equal parts.
    step = jnp.where(counts > 0, below, 0).max(axis=0) // 255
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, table, jnp.arange(256)[:, None]).astype(jnp.float32)


def blend(image: Image, other: Float[Array, "*shape"], factor: Float[Array, ""]) -> Image:
    """Pillow's `Image.blend` from `other` (factor 0) to `image` (1) and beyond, clipped to 0..255."""
    return jnp.clip(image + (1.0 - factor) * (other - image), 0.0, 255.0)


def grey(image: Image) -> Float[Array, "n n 1"]:
    """Luma of ITU-R 601."""
    # Elementwise: a matrix product would have fewer bits on GPU and TPU.
    return 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def smooth(image: Image) -> Image:
    """Pillow's `ImageFilter.SMOOTH`: the mean of 3 x 3 pixels, the middle one five times; the rim as it is."""
    columns = image[:, :-2] + image[:, 1:-1] + image[:, 2:]
    square = columns[:-2] + columns[1:-1] + columns[2:]
    within = jnp.pad(jnp.ones(square.shape, bool), ((1, 1), (1, 1), (0, 0)))
    return jnp.where(within, (jnp.pad(square, ((1, 1), (1, 1), (0, 0))) + 4.0 * image) / 13.0, image)


def _blended_with(image: Image) -> dict[str, Array]:
    """What each of `BLENDS` blends with, as in Pillow's `ImageEnhance`."""
    luma = grey(image)
    return {"brightness": jnp.zeros(()), "contrast": luma.mean(), "colour": luma, "sharpness": smooth(image)}
