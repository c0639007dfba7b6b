import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from p10k_jax.data.erasing import Erasing, erase

SIDE = 32


def erased(settings, number, image=None):
    keys = jax.random.split(jax.random.key(1), number)
    image = jnp.full((SIDE, SIDE, 3), 7.0) if image is None else jnp.asarray(image)
    return np.asarray(jax.jit(jax.vmap(functools.partial(erase, settings=settings), (0, None)))(keys, image))


def extents(images):
    """Heights and widths of what is no longer 7, of the images where anything is; checked to be rectangles."""
    mask = (images != 7).any(axis=3)
    assert ((images != 7).all(axis=3) == mask).all()
    rows, columns = mask.any(axis=2).sum(axis=1), mask.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows * columns, mask.sum(axis=(1, 2)))
    return rows[rows > 0], columns[rows > 0]


def timm_extents(settings, number):
    """timm's rule, written again in NumPy: the first of ten draws that is smaller than the image."""
    random, found = np.random.RandomState(0), []
    for _ in range(number):
        for _ in range(10):
            area = random.uniform(*settings.area) * SIDE**2
            ratio = np.exp(random.uniform(*np.log(settings.ratio)))
            height, width = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if height < SIDE and width < SIDE:
                found.append((height, width))
                break
    return np.array(found).T


@pytest.mark.parametrize("settings", [Erasing(1.0), Erasing(1.0, (0.2, 0.9), (0.5, 4.0))])
def test_rectangles_are_as_timms(settings):
    ours, theirs = extents(erased(settings._replace(mode="const"), 3000)), timm_extents(settings, 6000)
    assert len(ours[0]) / 3000 == pytest.approx(theirs.shape[1] / 6000, abs=0.02)
    for our_side, their_side in zip(ours, theirs, strict=True):
        assert stats.ks_2samp(our_side, their_side).pvalue > 1e-3


def test_place_is_uniform():
    images = erased(Erasing(1.0, (0.25, 0.25), (1.0, 1.0), "const"), 3000)
    mask = (images == 0).all(axis=3)
    for axis in (1, 2):
        starts = mask.any(axis=3 - axis).argmax(axis=1)
        counts = np.bincount(starts, minlength=17)
        assert len(counts) == 17, "16 of 32 pixels start at 0..16"
        assert stats.chisquare(counts).pvalue > 1e-3


def test_probability():
    images = erased(Erasing(0.3, mode="const"), 3000)
    np.testing.assert_allclose((images != 7).any(axis=(1, 2, 3)).mean(), 0.3, atol=0.03)


def test_pixel_noise_is_normal_and_the_rest_stays():
    image = np.random.RandomState(0).uniform(-2, 2, (SIDE, SIDE, 3)).astype(np.float32)
    images = erased(Erasing(1.0, (0.2, 0.4)), 50, image)
    mask = images != image
    assert 0.15 < mask.mean() < 0.45
    assert stats.kstest(images[mask], "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Erasing(probability=-0.1), r"augment\.erasing\.probability=-0\.1 must be a probability"),
        (Erasing(area=(0.5, 0.2)), r"augment\.erasing\.area=\(0\.5, 0\.2\) must be two shares"),
        (Erasing(ratio=(0.0, 2.0)), r"augment\.erasing\.ratio=\(0\.0, 2\.0\) must be two ratios"),
        (Erasing(mode="noise"), r"augment\.erasing\.mode='noise' is unknown; known: pixel, const"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        settings.check()
