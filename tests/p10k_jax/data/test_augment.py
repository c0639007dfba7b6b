import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from p10k_jax.data import augment
from p10k_jax.data.erasing import Erasing, erase
from p10k_jax.data.policies import AugMix, RandAugment, apply_randaugment
from p10k_jax.training.mesh import batch_sharding, make_mesh

RANDOM = np.random.RandomState(0)


def views(**changes):
    settings = {"image_size": 32, "scale": (0.5, 1.0), "ratio": (0.75, 1.33), "flip": 0.5}
    return jax.jit(augment.training_views(**(settings | changes), statistics=augment.Normalisation()))


WHOLE = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}
CANVASES = jnp.asarray(RANDOM.randint(0, 256, (16, 48, 48, 3)).astype(np.uint8))
ASPECTS = jnp.asarray(np.linspace(0.4, 2.5, 16), jnp.float32)
KEYS = jax.random.split(jax.random.key(3), 16)
SETTINGS = {
    "pad": {"pad": True},
    "jitter": {"jitter": (0.4, 0.4, 0.4)},
    "grey": {"grey_probability": 0.5},
    "randaugment": {"randaugment": RandAugment()},
    "augmix": {"augmix": AugMix(width=2, depth=(1, 2))},
    "erasing": {"erasing": Erasing(0.5)},
}
TOGETHER = [("pad", "randaugment", "erasing"), ("jitter", "grey", "augmix")]


@functools.cache
def seen(names):
    """The views with these settings, and what they show of all canvases."""
    see = views(**{key: value for name in names for key, value in SETTINGS[name].items()})
    return see, np.asarray(see(KEYS, CANVASES, ASPECTS))


@pytest.mark.parametrize("names", TOGETHER)
def test_a_view_depends_on_its_rows_key_alone(names):
    see, whole = seen(names)
    np.testing.assert_array_equal(see(KEYS, CANVASES.at[0].set(0), ASPECTS)[1:], whole[1:])
    rows = np.array([7, 6, 5, 4] * 4)
    np.testing.assert_array_equal(see(KEYS[rows], CANVASES[rows], ASPECTS[rows]), whole[rows])
    assert (np.abs(see(jax.random.split(jax.random.key(4), 16), CANVASES, ASPECTS) - whole) > 0.1).mean() > 0.3


def test_eight_devices_see_what_one_sees():
    see, whole = seen(TOGETHER[0])
    sharding = batch_sharding(make_mesh())
    sharded = see(*(jax.device_put(argument, sharding) for argument in (KEYS, CANVASES, ASPECTS)))
    assert sharded.sharding.is_equivalent_to(sharding, 4)
    # Up to the last bit, of which the operations that read whole levels can make a level here and there.
    assert np.mean(np.abs(np.asarray(sharded) - whole) > 1e-4) < 1e-3


def test_what_is_off_is_not_computed():
    def program(**changes):
        return str(jax.make_jaxpr(views(**changes))(KEYS, CANVASES, ASPECTS))

    off = {"randaugment": RandAugment(num_ops=0), "augmix": AugMix(width=0), "erasing": Erasing(0.0)}
    assert program(**off, jitter=(0.0, 0.0, 0.0), grey_probability=0.0, pad=False) == program()
    for name, settings in SETTINGS.items():
        assert program(**settings) != program(), name


def test_settings_draw_apart_from_each_other():
    """Turning one on changes no draw of another: crops and flips stay, and pixels where none are erased."""
    _, plain = seen(("pad",))
    see = views(pad=True, grey_probability=0.5, erasing=Erasing(1.0, mode="const"))
    ours = np.asarray(see(KEYS, CANVASES, ASPECTS))
    pixels = in_levels(plain)
    luma = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
    erased, coloured = (ours == 0).all(axis=3), np.isclose(in_levels(ours), pixels, atol=1e-2).all(axis=3)
    grey = np.isclose(in_levels(ours), luma[..., None], atol=1e-2).all(axis=3)
    is_grey = (grey | erased).all(axis=(1, 2))
    assert 2 < is_grey.sum() < 14
    assert (coloured | erased)[~is_grey].all()
    assert 0.2 < (coloured | grey).mean() < 0.95


def in_levels(normalised):
    """0..255 again."""
    return (normalised * np.array(augment.IMAGENET[1]) + np.array(augment.IMAGENET[0])) * 255


def test_order_is_crop_then_operations_then_normalise_then_erase():
    _, ours = seen(("pad", "randaugment", "erasing"))
    mean, pixels = 255 * jnp.float32(augment.IMAGENET[0]), jnp.float32(in_levels(seen(("pad",))[1]))

    def rest(key, image):
        image = apply_randaugment(jax.random.fold_in(key, 3), image, RandAugment(), fill=mean)
        image = augment.normalise(image, augment.Normalisation())
        return erase(jax.random.fold_in(key, 6), image, SETTINGS["erasing"]["erasing"])

    assert np.mean(np.abs(jax.jit(jax.vmap(rest))(KEYS, pixels) - ours) > 1e-3) < 0.01


def evaluated(**settings):
    see = augment.evaluation_views(**settings, statistics=augment.Normalisation())
    return np.asarray(jax.jit(see)(KEYS, CANVASES, ASPECTS))


def test_flip_is_a_mirror_image():
    mirrored = views(**(WHOLE | {"flip": 1.0}))(KEYS, CANVASES, jnp.ones(16))
    np.testing.assert_allclose(mirrored, evaluated(image_size=32, crop=0.0)[:, :, ::-1], atol=1e-5)


def test_padded_views_show_the_whole_of_any_picture():
    """The largest crop is the padded square, as in evaluation; margins are zero."""
    ours = np.asarray(views(**WHOLE, pad=True)(KEYS, CANVASES, ASPECTS))
    np.testing.assert_allclose(ours, evaluated(image_size=32, crop=0.0, pad=True), atol=1e-5)
    for view, aspect in zip(ours, ASPECTS, strict=True):
        margin = max(int(16 * (1 - min(aspect, 1 / aspect))) - 1, 0)
        view = view if aspect > 1 else view.swapaxes(0, 1)
        np.testing.assert_allclose(view[:margin], 0, atol=1e-6)
        np.testing.assert_allclose(view[32 - margin :], 0, atol=1e-6)
        assert (np.abs(view[margin + 3 : 29 - margin]) > 0.05).mean() > 0.7


def test_padded_evaluation_crops_the_centre_of_the_square():
    whole, half = (evaluated(image_size=size, crop=crop, pad=True) for size, crop in ((64, 0.0), (32, 0.5)))
    np.testing.assert_allclose(half, whole[:, 16:-16, 16:-16], atol=1e-3)


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


def test_evaluation_view_of_the_whole_canvas_is_the_canvas_normalised():
    expected = (np.asarray(CANVASES) / 255.0 - np.array(augment.IMAGENET[0])) / np.array(augment.IMAGENET[1])
    np.testing.assert_allclose(evaluated(image_size=48, crop=0.0), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"augment\.crop_scale=\(0\.0, 1\.0\) must be two areas"),
        ({"ratio": (2.0, 1.0)}, r"augment\.crop_ratio=\(2\.0, 1\.0\) must be two ratios"),
        ({"flip": 1.5}, r"augment\.flip=1\.5 must be a probability"),
        ({"grey_probability": -0.5}, r"augment\.grey=-0\.5 must be a probability"),
        ({"jitter": (0.1, -1)}, r"augment\.jitter=\(0\.1, -1\) must be three"),
        ({"randaugment": RandAugment(magnitude=12)}, r"augment\.randaugment\.magnitude=12 is outside 0\.\.10"),
        ({"augmix": AugMix(alpha=-1.0)}, r"augment\.augmix\.alpha=-1\.0 must be above 0"),
        ({"erasing": Erasing(2.0)}, r"augment\.erasing\.probability=2\.0 must be a probability"),
        (
            {"randaugment": RandAugment(), "augmix": AugMix()},
            r"augment\.randaugment\.num_ops=2 and augment\.augmix\.width=3: set one of them to 0",
        ),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        views(**settings)
