import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from p10k_jax.data import crops

RANDOM = np.random.RandomState(0)
CANVAS = RANDOM.randint(0, 256, (48, 48, 3)).astype(np.uint8)
FILL = np.array([124, 116, 104])


def pillow_crop(canvas, box, size):
    """Pillow's antialiased bilinear resize of a fractional box: an independent oracle."""
    top, left, height, width = np.asarray(box) * canvas.shape[0]
    box = (left, top, left + width, top + height)
    return np.asarray(Image.fromarray(canvas).resize((size, size), Image.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.25, 0.1, 0.5, 0.75), (0.3, 0.6, 0.21, 0.33)])
@pytest.mark.parametrize("size", [16, 48, 64])
def test_crop_and_resize_equals_pillow(box, size):
    ours = crops.crop_and_resize(jnp.asarray(CANVAS), jnp.array(box, jnp.float32), size)
    theirs = pillow_crop(CANVAS, box, size).astype(np.float32)
    # Pillow reads pixels beyond the box only inside its own rounding of it, and rounds to uint8 twice.
    inner = slice(2, -2)
    difference = np.abs(np.asarray(ours) - theirs)[inner, inner]
    assert difference.mean() < 1.0
    assert difference.max() < 12


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.3, 0.6, 0.21, 0.33)])
@pytest.mark.parametrize("size", [16, 64])
def test_crop_and_resize_equals_jaxs_and_mirrors(box, size):
    box, canvas = np.array(box, np.float32), jnp.asarray(CANVAS)
    scale = size / (box[2:] * 48)
    settings = {"method": "linear", "antialias": True}
    theirs = jax.image.scale_and_translate(
        canvas.astype(jnp.float32), (size, size, 3), (0, 1), scale, -box[:2] * 48 * scale, **settings
    )
    ours = crops.crop_and_resize(canvas, jnp.asarray(box), size)
    np.testing.assert_allclose(ours, jnp.clip(theirs, 0, 255), atol=2e-3)
    mirrored = crops.crop_and_resize(canvas, jnp.asarray(box), size, mirror=jnp.array(True))
    np.testing.assert_allclose(mirrored[:, ::-1], ours, atol=2e-3)


def boxes(keys, aspect, *, scale):
    """Columns top, left, height, width of a random box a key."""
    settings = {"scale": scale, "ratio": (3 / 4, 4 / 3)}
    draw = jax.vmap(lambda key: crops.random_resized_crop_box(key, jnp.float32(aspect), **settings))
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
    box = crops.random_resized_crop_box(jax.random.key(1), jnp.float32(50.0), scale=(0.9, 1.0), ratio=(3 / 4, 4 / 3))
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
        top, left, height, width = np.asarray(crops.centre_box(jnp.float32(aspect), fraction=0.8))
        np.testing.assert_allclose(width * aspect, height, rtol=1e-6)
        np.testing.assert_allclose(min(height, width * aspect), 0.8 * min(1, aspect), rtol=1e-6)
        np.testing.assert_allclose([top * 2 + height, left * 2 + width], 1, rtol=1e-6)


PADDED = jax.jit(crops.crop_and_resize_padded, static_argnums=2)


def padded_view(canvas, box, aspect, size):
    return np.asarray(PADDED(canvas, np.float32(box), size, aspect=np.float32(aspect), fill=np.float32(FILL)))


@pytest.mark.parametrize("aspect", [0.5, 2.0])
@pytest.mark.parametrize("square", [(0, 0, 1, 1), (0.1, 0.05, 0.7, 0.9)])
@pytest.mark.parametrize("size", [16, 40, 64])
def test_padded_crop_equals_pillows_of_a_padded_picture(aspect, square, size):
    # On the canvas a picture twice as wide as high has 48 rows, and the square that holds it 96.
    margin = ((24, 24), (0, 0)) if aspect > 1 else ((0, 0), (24, 24))
    padded = np.stack([np.pad(CANVAS[..., c], margin, constant_values=FILL[c]) for c in range(3)], axis=2)
    height, width = padded.shape[:2]
    box = (square[1] * width, square[0] * height, (square[1] + square[3]) * width, (square[0] + square[2]) * height)
    theirs = Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR, box=box)
    # Everywhere, the rim of the picture included: Pillow rounds to whole levels twice.
    np.testing.assert_allclose(padded_view(CANVAS, square, aspect, size), np.asarray(theirs), atol=1.01)


def test_padded_crop_where_the_margin_is_no_whole_number_of_pixels():
    """The triangle filter by its definition, over a canvas with margins of 16.8 pixels above and below."""
    aspect, size = 1.7, 20
    padded = np.concatenate([np.tile(FILL, (17, 48, 1)), CANVAS, np.tile(FILL, (17, 48, 1))])

    def weights(start, step, side):
        places = start + (np.arange(size) + 0.5) * step - 0.5
        raw = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side)) / max(step, 1))
        return raw / raw.sum(axis=1, keepdims=True)

    rows = weights(0.05 * aspect * 48 + 0.2, 0.8 * aspect * 48 / size, len(padded))
    expected = np.einsum("ys,stc,xt->yxc", rows, padded, weights(0, 48 / size, 48))
    np.testing.assert_allclose(padded_view(CANVAS, (0.05, 0, 0.8, 1), aspect, size), expected, atol=1e-2)


def test_padded_view_of_a_squashed_picture_is_that_of_the_picture():
    high = Image.fromarray(RANDOM.randint(0, 256, (5, 4, 3)).astype(np.uint8)).resize(
        (80, 200), Image.Resampling.BICUBIC
    )
    canvas = np.asarray(high.resize((160, 160), Image.Resampling.BOX))
    square = Image.new("RGB", (200, 200), tuple(FILL.tolist()))
    square.paste(high, (60, 0))
    theirs = np.asarray(square.resize((50, 50), Image.Resampling.BILINEAR), np.float32)
    difference = np.abs(padded_view(canvas, (0, 0, 1, 1), 80 / 200, 50) - theirs)
    assert difference.mean() < 0.5
    assert difference.max() < 4


def test_a_square_picture_has_no_margin():
    box = jnp.array([0.1, 0.2, 0.6, 0.5])
    plain = crops.crop_and_resize(jnp.asarray(CANVAS), box, 24)
    np.testing.assert_allclose(padded_view(CANVAS, box, 1.0, 24), plain, atol=1e-3)


@pytest.mark.parametrize("aspect", [0.02, 0.5, 0.98, 1.01, 1.7, 40.0])
def test_margins_are_nothing_but_fill(aspect):
    white = np.full((48, 48, 3), 255, np.uint8)
    view = padded_view(white, (0, 0, 1, 1), aspect, 64)
    margin = int(64 * (1 - min(aspect, 1 / aspect)) / 2) - 2
    margins = [view[:margin], view[64 - margin :]] if aspect > 1 else [view[:, :margin], view[:, 64 - margin :]]
    for part in margins if margin > 0 else []:
        np.testing.assert_array_equal(part, np.broadcast_to(FILL, part.shape))
    # What is not margin is picture: nothing is lost, and nothing doubled.
    np.testing.assert_allclose((view - FILL).mean(axis=(0, 1)) / (255 - FILL), min(aspect, 1 / aspect), rtol=0.03)


def test_padded_crops_mirror():
    box = jnp.array([0.1, 0.2, 0.5, 0.7], jnp.float32)
    settings = {"aspect": jnp.float32(0.6), "fill": jnp.asarray(FILL, jnp.float32)}
    plain, mirrored = (PADDED(CANVAS, box, 24, **settings, mirror=jnp.array(how)) for how in (False, True))
    np.testing.assert_allclose(mirrored[:, ::-1], plain, atol=2e-3)
    assert np.abs(mirrored - plain).max() > 10
