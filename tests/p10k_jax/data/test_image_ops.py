"""Each operation against Pillow, with the arguments that timm's "increasing" set gives it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from p10k_jax.data import image_ops
from p10k_jax.data.image_ops import BLENDS, TABLES, WARPS

RANDOM = np.random.RandomState(0)
SIDE = 56
FILL = (124, 116, 104)
NAMES = TABLES + BLENDS + WARPS


def picture(seed, least=20, most=230):
    """Smooth shapes and noise, with levels that autocontrast and equalize have to spread."""
    random = np.random.RandomState(seed)
    coarse = Image.fromarray(random.randint(least, most, (6, 6, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), int)
    return np.clip(smooth + random.randint(-15, 16, smooth.shape), least, most).astype(np.uint8)


@functools.partial(jax.jit, static_argnames="names")
def apply(image, chosen, magnitude, sign, names=NAMES):
    settings = {"fill": jnp.float32(FILL), "max_translation": 0.45}
    return image_ops.apply_operation(image.astype(jnp.float32), names, chosen, magnitude, sign, **settings)


def ours(name, image, magnitude=9.0, sign=1.0, names=NAMES):
    return np.asarray(apply(image, names.index(name), np.float32(magnitude), np.float32(sign), names=names))


def transformed(image, *matrix):
    settings = {"resample": Image.Resampling.BILINEAR, "fillcolor": FILL}
    return Image.fromarray(image).transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, **settings)


# Name: the operation of Pillow, and its argument at magnitude 9 and 4 in timm, by positive sign and negative.
PILLOW = {
    "autocontrast": (lambda image, _: ImageOps.autocontrast(Image.fromarray(image)), {}),
    "equalize": (lambda image, _: ImageOps.equalize(Image.fromarray(image)), {}),
    "invert": (lambda image, _: ImageOps.invert(Image.fromarray(image)), {}),
    "posterize": (lambda image, bits: ImageOps.posterize(Image.fromarray(image), bits), {9: (1, 1), 4: (3, 3)}),
    "solarize": (
        lambda image, threshold: ImageOps.solarize(Image.fromarray(image), threshold),
        {9: (26,) * 2, 4: (154,) * 2},
    ),
    "solarize_add": (
        lambda image, add: np.where(image < 128, np.minimum(image + add, 255), image),
        {9: (99,) * 2, 4: (44,) * 2},
    ),
    "brightness": (
        lambda image, f: ImageEnhance.Brightness(Image.fromarray(image)).enhance(f),
        {9: (1.81, 0.19), 4: (1.36, 0.64)},
    ),
    "contrast": (
        lambda image, f: ImageEnhance.Contrast(Image.fromarray(image)).enhance(f),
        {9: (1.81, 0.19), 4: (1.36, 0.64)},
    ),
    "colour": (
        lambda image, f: ImageEnhance.Color(Image.fromarray(image)).enhance(f),
        {9: (1.81, 0.19), 4: (1.36, 0.64)},
    ),
    "sharpness": (
        lambda image, f: ImageEnhance.Sharpness(Image.fromarray(image)).enhance(f),
        {9: (1.81, 0.19), 4: (1.36, 0.64)},
    ),
    "rotate": (
        lambda image, degrees: Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=FILL),
        {9: (27, -27), 4: (12, -12)},
    ),
    "shear_x": (lambda image, shear: transformed(image, 1, shear, 0, 0, 1, 0), {9: (0.27, -0.27), 4: (0.12, -0.12)}),
    "shear_y": (lambda image, shear: transformed(image, 1, 0, 0, shear, 1, 0), {9: (0.27, -0.27), 4: (0.12, -0.12)}),
    "translate_x": (
        lambda image, share: transformed(image, 1, 0, share * SIDE, 0, 1, 0),
        {9: (0.405, -0.405), 4: (0.18, -0.18)},
    ),
    "translate_y": (
        lambda image, share: transformed(image, 1, 0, 0, 0, 1, share * SIDE),
        {9: (0.405, -0.405), 4: (0.18, -0.18)},
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_operation_equals_pillows(name):
    operation, arguments = PILLOW[name]
    for image in (picture(0), picture(1, 60, 180)):
        for magnitude, signed in (arguments or {9: (None, None)}).items():
            for sign, argument in zip((1, -1), signed, strict=True):
                theirs = np.asarray(operation(image, argument), np.float32)
                difference = np.abs(ours(name, image, magnitude, sign) - theirs)
                # A level for Pillow's cutting off of fractions, and half of one for its rounding of luma and blur.
                # Of a warp, the fate of a pixel on the very rim is decided by the last bit.
                assert np.mean(difference > 1.5) <= (0.002 if name in WARPS else 0)
                assert np.abs(theirs - image).mean() > 0.5, "the operation does something"


def test_none_chosen_is_the_picture_itself():
    image = jnp.asarray(RANDOM.uniform(0, 255, (SIDE, SIDE, 3)), jnp.float32)
    np.testing.assert_array_equal(apply(image, -1, np.float32(9), np.float32(1)), image)


@pytest.mark.parametrize("names", [WARPS, TABLES, BLENDS, ("sharpness", "equalize", "rotate")])
def test_fewer_names_are_the_same_operations(names):
    for name in names:
        np.testing.assert_allclose(ours(name, picture(3), names=names), ours(name, picture(3)), atol=1e-3)


@pytest.mark.parametrize("levels", [(7,), (0, 255), (3, 200), (100, 101, 102)])
def test_pictures_of_few_levels(levels):
    image = RANDOM.choice(levels, (SIDE, SIDE, 3)).astype(np.uint8)
    for name in ("autocontrast", "equalize"):
        theirs = np.asarray(PILLOW[name][0](image, None), np.float32)
        np.testing.assert_allclose(ours(name, image), theirs, atol=1.01, err_msg=name)


def test_fractions_are_kept_by_blends_and_read_as_whole_levels_by_tables():
    image = np.full((SIDE, SIDE, 3), 100.4, np.float32)
    np.testing.assert_allclose(ours("invert", image), 155.0)
    np.testing.assert_allclose(ours("brightness", image), 100.4 * 1.81, rtol=1e-5)


def test_posterize_always_keeps_a_bit():
    assert set(np.unique(ours("posterize", picture(0), 10.0))) == {0.0, 128.0}


@pytest.mark.parametrize("count", [image_ops._count_by_adding, image_ops._count_by_comparing, image_ops.histogram])
def test_histogram(count):
    levels = RANDOM.randint(0, 256, (20, 20, 3))
    expected = np.stack([np.bincount(levels[..., channel].ravel(), minlength=256) for channel in range(3)], axis=1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(count))(jnp.asarray(levels)[None])[0], expected)
