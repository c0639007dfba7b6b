"""What a ViT leaves to chance, and its poolings and positions without a golden of timm's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import create
from p10k_jax.models.layers import GemPool
from p10k_jax.models.transformer import resample_positions, sincos_positions

SMALL = {"width": 24, "depth": 3, "heads": 3}
IMAGES = jnp.asarray(np.random.RandomState(0).randn(400, 8, 8, 3), jnp.float32)


def model(*, image_size=8, **options):
    """A small ViT whose residual branches and head all say something."""
    made = create("vit-Ti/8", num_classes=5, image_size=image_size, **SMALL, **options)
    params, _ = jax.jit(made.init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return made, jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)


def test_stochastic_depth_skips_branches_at_its_rate_and_keeps_the_mean():
    made, params = model(drop_path=0.4, layer_scale=1e-3)
    for block in params["blocks"].values():  # branches so small that the logits are linear in them
        block["ls1"]["gamma"] = block["ls2"]["gamma"] = jnp.full(24, 1e-3)
    apply = jax.jit(made.apply, static_argnames="train")
    whole = apply(params, {}, IMAGES)[0].logits
    again = apply(params, {}, IMAGES, key=jax.random.key(7))[0].logits
    np.testing.assert_array_equal(whole, again, err_msg="evaluation leaves nothing to chance")
    image = jnp.broadcast_to(IMAGES[:1], IMAGES.shape)
    drawn = np.stack([apply(params, {}, image, train=True, key=jax.random.key(i))[0].logits for i in range(20)])
    drawn = drawn.reshape(-1, 5).astype(np.float64)
    # Blocks 2 and 3 are dropped with 0.2 and 0.4, each in two branches: 16 different sums.
    assert len(np.unique(np.round(drawn[:, 0], 6))) == 16
    np.testing.assert_allclose(drawn.mean(0), whole[0], atol=4 * (drawn.std(0) / len(drawn) ** 0.5).max())


def test_training_with_drop_path_needs_a_key():
    made, params = model(drop_path=0.1)
    with pytest.raises(ValueError, match="drop_path needs a key"):
        made.apply(params, {}, IMAGES[:2], train=True)


@pytest.mark.parametrize("power", [1.0, 3.0, 9.0])
def test_generalised_mean_follows_its_definition(power):
    tokens = np.random.RandomState(0).rand(4, 9, 6).astype(np.float32) - 0.1
    pool = GemPool()
    pool.p[...] = jnp.array([power])
    expected = (np.maximum(tokens.astype(np.float64), 1e-6) ** power).mean(1) ** (1 / power)
    np.testing.assert_allclose(pool(jnp.asarray(tokens)), expected, rtol=1e-5)
    gradient = jax.grad(lambda tokens: pool(tokens).sum())(jnp.asarray(tokens).at[:, :, 0].set(-1.0))
    assert bool(jnp.isfinite(gradient).all()), "also where a channel is negative in all tokens"


def test_generalised_mean_pools_patches_alone():
    made, params = model(pool="gem", registers=2, image_size=16)  # four patches: of one the power changes nothing
    images = jnp.tile(IMAGES[:4], (1, 2, 2, 1)) * jnp.linspace(0.5, 1.5, 16)[:, None, None]
    logits = made.apply(params, {}, images)[0].logits
    assert logits.shape == (4, 5)
    assert bool(jnp.isfinite(logits).all())
    gradients = jax.grad(lambda params: made.apply(params, {}, images)[0].logits.sum())(params)
    assert float(jnp.abs(gradients["gem_pool"]["p"]).max()) > 1e-4


def test_sincos_positions_follow_the_paper():
    table = sincos_positions(16, 3, 5).reshape(3, 5, 16)
    for y in range(3):
        for x in range(5):
            angles = [1 / 10_000 ** (i / 4) for i in range(4)]
            expected = [f(a * v) for v in (x, y) for f in (np.sin, np.cos) for a in angles]
            np.testing.assert_allclose(table[y, x], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "max"}, r"pool='max' is unknown; known: 'token', 'avg', 'map', 'gem'"),
        ({"class_token": False}, r"pool='token' is unknown; known: 'avg', 'map', 'gem'"),
        ({"activation": "relu"}, r"activation='relu' is unknown; known: 'gelu'.*'swiglu'"),
        ({"positions": "rotary"}, r"positions='rotary' is unknown; known: 'learned', 'sincos', 'none'"),
        ({"drop_path": 1.0}, r"drop_path=1\.0 is outside"),
        ({"positions": "sincos", "width": 18}, r"multiple of 4, not 18"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        create("vit-Ti/8", num_classes=5, image_size=8, **SMALL | options)


def test_without_positions_the_order_of_patches_is_not_seen():
    made, params = model(positions="none", class_token=False, pool="avg")
    assert "pos_embed" not in params
    image = np.random.RandomState(2).randn(1, 16, 16, 3).astype(np.float32)
    turned = np.concatenate([image[:, 8:], image[:, :8]], axis=1)
    apply = jax.jit(made.apply)
    logits = [apply(params, {}, x)[0].logits for x in (image, turned)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    assert float(jnp.abs(logits[0]).max()) > 0.1


@pytest.mark.parametrize(
    "options", [{}, {"registers": 2, "embed_prefix": False}, {"class_token": False, "pool": "map"}]
)
def test_pictures_of_another_size_see_the_positions_that_loading_would_give(options):
    made, params = model(**options)
    larger = create("vit-Ti/8", num_classes=5, image_size=24, **SMALL, **options)
    images = jnp.asarray(np.random.RandomState(1).randn(2, 24, 24, 3), jnp.float32)
    resampled = resample_positions(params["pos_embed"], made.prefix_tokens, 3, 3)
    expected = larger.apply(params | {"pos_embed": resampled}, {}, images)[0].logits
    np.testing.assert_allclose(made.apply(params, {}, images)[0].logits, expected, atol=1e-6)


def test_oblong_pictures_and_those_of_no_whole_number_of_patches():
    made, params = model()
    assert made.apply(params, {}, jnp.ones((2, 16, 32, 3)))[0].logits.shape == (2, 5)
    with pytest.raises(ValueError, match="Images of 16 x 30 pixels do not divide into patches of 8"):
        made.apply(params, {}, jnp.ones((2, 16, 30, 3)))
