import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from p10k_jax.data import augment

RANDOM = np.random.RandomState(0)
CANVAS = RANDOM.randint(0, 256, (48, 48, 3)).astype(np.uint8)


def pillow_crop(canvas, box, size):
    """Pillow's antialiased bilinear resize of a fractional box: an independent oracle."""
    top, left, height, width = np.asarray(box) * canvas.shape[0]
    box = (left, top, left + width, top + height)
    return np.asarray(Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.25, 0.1, 0.5, 0.75), (0.3, 0.6, 0.21, 0.33)])
@pytest.mark.parametrize("size", [16, 48, 64])
def test_crop_and_resize_equals_pillow(box, size):
    ours = augment.crop_and_resize(jnp.asarray(CANVAS), jnp.array(box, jnp.float32), size)
    theirs = pillow_crop(CANVAS, box, size).astype(np.float32)
    # Pillow reads pixels beyond the box only inside its own rounding of it, and rounds to uint8 twice.
    inner = slice(2, -2)
    difference = np.abs(np.asarray(ours) - theirs)[inner, inner]
    assert difference.mean() < 1.0
    assert difference.max() < 12


def boxes(keys, aspect, *, scale):
    """Columns top, left, height, width of a random box a key."""
    settings = {"scale": scale, "ratio": (3 / 4, 4 / 3)}
    draw = jax.vmap(lambda key: augment.random_resized_crop_box(key, jnp.float32(aspect), **settings))
    return np.asarray(draw(keys)).T


@pytest.mark.parametrize("aspect", [0.4, 1.3])
def test_random_boxes_keep_the_promised_area_and_ratio(aspect):
    keys = jax.random.split(jax.random.key(0), 2000)
    top, left, height, width = boxes(keys, aspect, scale=(0.2, 0.6))
    tolerance = 1e-5
    assert (top >= -tolerance).all()
    assert (left >= -tolerance).all()
    assert (top + height <= 1 + tolerance).all()
    assert (left + width <= 1 + tolerance).all()
    ratio = width * aspect / height
    assert ratio.min() >= 3 / 4 - tolerance
    assert ratio.max() <= 4 / 3 + tolerance
    area = height * width
    assert area.max() <= 0.6 + tolerance
    assert area.min() >= 0.2 - tolerance
    assert area.std() > 0.02
    assert ratio.std() > 0.05


def test_crop_of_an_extreme_picture_falls_back_to_its_centre():
    box = augment.random_resized_crop_box(jax.random.key(1), jnp.float32(50.0), scale=(0.9, 1.0), ratio=(3 / 4, 4 / 3))
    np.testing.assert_allclose(box, [0, (1 - 4 / 3 / 50) / 2, 1, 4 / 3 / 50], atol=1e-6)


def test_distribution_of_crop_areas_equals_torchvisions_rule():
    # Rejection as in torchvision, written again in NumPy: the mean area and mean ratio of accepted draws.
    aspect, random = 1.5, np.random.RandomState(1)
    areas = random.uniform(0.3, 1.0, 200_000)
    ratios = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), 200_000))
    width, height = np.sqrt(areas * ratios * aspect), np.sqrt(areas * aspect / ratios)
    fits = (width <= aspect) & (height <= 1)
    keys = jax.random.split(jax.random.key(0), 20_000)
    _, _, h, w = boxes(keys, aspect, scale=(0.3, 1.0))
    np.testing.assert_allclose((h * w).mean(), areas[fits].mean(), rtol=0.01)
    np.testing.assert_allclose((w * aspect / h).mean(), ratios[fits].mean(), rtol=0.01)


def test_centre_box_is_square_in_the_picture():
    for aspect in (0.5, 1.0, 2.0):
        top, left, height, width = np.asarray(augment.centre_box(jnp.float32(aspect), fraction=0.8))
        np.testing.assert_allclose(width * aspect, height, rtol=1e-6)
        np.testing.assert_allclose(min(height, width * aspect), 0.8 * min(1, aspect), rtol=1e-6)
        np.testing.assert_allclose([top * 2 + height, left * 2 + width], 1, rtol=1e-6)


def views(**changes):
    settings = {"image_size": 32, "scale": (0.5, 1.0), "ratio": (0.75, 1.33), "flip": 0.5}
    return augment.training_views(**(settings | changes), statistics=augment.Normalisation())


def test_training_views_depend_on_key_and_row_alone():
    canvases, aspects = jnp.asarray(RANDOM.randint(0, 256, (6, 48, 48, 3)).astype(np.uint8)), jnp.ones(6)
    both = views()(jax.random.key(3), canvases, aspects)
    np.testing.assert_array_equal(both, views()(jax.random.key(3), canvases, aspects))
    changed = views()(jax.random.key(3), canvases.at[0].set(0), aspects)
    np.testing.assert_array_equal(both[1:], changed[1:])
    assert not np.array_equal(both, views()(jax.random.key(4), canvases, aspects))


def test_flip_is_a_mirror_image():
    canvases, aspects = jnp.asarray(CANVAS)[None], jnp.ones(1)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    plain = views(flip=0.0, **whole)(jax.random.key(0), canvases, aspects)
    mirrored = views(flip=1.0, **whole)(jax.random.key(0), canvases, aspects)
    np.testing.assert_allclose(mirrored[0], plain[0][:, ::-1], atol=1e-6)


def test_colour_jitter_equals_pillows_enhancers():
    image = Image.fromarray(RANDOM.randint(0, 256, (40, 40, 3)).astype(np.uint8))
    strengths = (0.6, 0.3, 1.5)
    for seed in range(4):
        ours = augment.colour_jitter(
            jax.random.key(seed), jnp.asarray(np.asarray(image), jnp.float32), strengths=strengths
        )
        least, most = np.maximum(0, 1 - np.array(strengths)), 1 + np.array(strengths)
        factors = jax.random.uniform(jax.random.key(seed), (3,), minval=least, maxval=most)
        theirs = image
        for factor, enhancer in zip(
            factors, (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), strict=True
        ):
            theirs = enhancer(theirs).enhance(float(factor))
        # Pillow rounds to whole levels after each step, up to half a level each, and saturation enlarges that.
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=4)
        assert np.abs(np.asarray(theirs, np.float32) - np.asarray(image)).mean() > 5


def test_views_are_jittered_as_configured():
    canvases, aspects = jnp.asarray(CANVAS)[None], jnp.ones(1)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}
    plain, none = (views(**whole, **more)(jax.random.key(0), canvases, aspects) for more in ({}, {"jitter": (0, 0, 0)}))
    np.testing.assert_array_equal(plain, none)
    jittered = views(**whole, jitter=(0.4, 0.4, 0.4))(jax.random.key(0), canvases, aspects)
    assert float(jnp.abs(jittered - plain).mean()) > 0.01
    with pytest.raises(ValueError, match=r"augment\.jitter=\(0\.1, -1\) must be three"):
        views(jitter=(0.1, -1))


def test_evaluation_view_of_the_whole_canvas_is_the_canvas_normalised():
    see = augment.evaluation_views(image_size=48, crop=0.0, statistics=augment.Normalisation())
    view = see(jax.random.key(0), jnp.asarray(CANVAS)[None], jnp.array([1.7]))
    expected = (CANVAS / 255.0 - np.array(augment.IMAGENET_MEAN)) / np.array(augment.IMAGENET_STD)
    np.testing.assert_allclose(view[0], expected, atol=1e-4)
