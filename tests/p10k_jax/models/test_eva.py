"""Rotary positions against timm's tables and their own laws, and EVA at any size of picture."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.models import create
from p10k_jax.models.eva import Rotary, Turn, rotary_angles, rotate
from p10k_jax.models.transformer import resample_positions
from tests.goldens import recipe

TABLES = json.loads((Path(recipe.__file__).parent / "rotary.json").read_text())
OURS = {
    "eva02": Rotary("grid", side=16),
    "rope": Rotary("grid", temperature=100.0, columns_first=True),
    "perception": Rotary("grid", side=24, offset=1.0, columns_first=True),
    "dinov3": Rotary("unit", temperature=100.0, halves=True),
}
SMALL = {"width": 24, "depth": 2, "heads": 3, "patch_size": 8}


@pytest.mark.parametrize("name", TABLES)
def test_angles_equal_timms(name):
    grid = recipe.ROTARY[name][1]
    angles = rotary_angles(OURS[name], recipe.ROTARY_CHANNELS, *grid)
    # timm repeats each pair's value: next to each other, or half a head apart.
    repeated = np.concatenate([angles, angles], axis=1) if OURS[name].halves else np.repeat(angles, 2, axis=1)
    expected = np.asarray(TABLES[name])
    assert len(np.unique(expected.round(5), axis=0)) == grid[0] * grid[1], "every patch has its own"
    np.testing.assert_allclose(np.concatenate([np.sin(repeated), np.cos(repeated)], axis=1), expected, atol=2e-6)


@pytest.mark.parametrize("halves", [False, True])
def test_products_of_turned_vectors_depend_on_the_offset_alone(halves):
    rotary = Rotary("grid", temperature=100.0, halves=halves)
    angles = jnp.asarray(rotary_angles(rotary, 8, 5, 5)[:, None], jnp.float32)
    query, key = np.random.RandomState(0).randn(2, 1, 1, 1, 8).astype(np.float32)
    turn = Turn(jnp.sin(angles), jnp.cos(angles))
    queries, keys = (rotate(jnp.broadcast_to(x, (1, 25, 1, 8)), turn, halves=halves)[0, :, 0] for x in (query, key))
    np.testing.assert_allclose(jnp.square(queries).sum(-1), np.full(25, np.square(query).sum()), rtol=1e-5)
    products = np.asarray(queries @ keys.T).reshape(5, 5, 5, 5)
    np.testing.assert_allclose(products[0, 0, 1, 2], products[3, 2, 4, 4], rtol=1e-4)
    np.testing.assert_allclose(products[:4, :4, :4, :4], products[1:, 1:, 1:, 1:], rtol=1e-3, atol=1e-4)
    assert abs(products[0, 0, 1, 2] - products[0, 0, 2, 1]) > 1e-2


def model(name, image_size=16, **options):
    """A small one whose every part says something."""
    made = create(name, num_classes=5, image_size=image_size, **SMALL | options)
    params, _ = jax.jit(made.init)(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    noise = [np.random.RandomState(i).randn(*leaf.shape).astype(np.float32) for i, leaf in enumerate(leaves)]
    return made, jax.tree.unflatten(structure, [leaf + 0.3 * n for leaf, n in zip(leaves, noise, strict=True)])


def test_pictures_of_another_size_see_the_positions_that_loading_would_give():
    made, params = model("eva02_tiny_patch14_224", image_size=16)
    larger, _ = model("eva02_tiny_patch14_224", image_size=32)
    images = jnp.asarray(np.random.RandomState(1).randn(2, 32, 32, 3), jnp.float32)
    resampled = params | {"pos_embed": resample_positions(params["pos_embed"], made.prefix_tokens, 4, 4)}
    expected = jax.jit(larger.apply)(resampled, {}, images)[0].logits
    np.testing.assert_allclose(jax.jit(made.apply)(params, {}, images)[0].logits, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224"])
def test_rotary_positions_see_where_patches_lie_in_oblong_pictures(name):
    made, params = model(name)
    assert "pos_embed" not in params
    assert made.prefix_tokens == 0
    image = np.random.RandomState(2).randn(1, 16, 32, 3).astype(np.float32)
    turned = np.concatenate([image[:, 8:], image[:, :8]], axis=1)
    apply = jax.jit(made.apply)
    logits = [np.asarray(apply(params, {}, x)[0].logits) for x in (image, turned)]
    assert np.abs(logits[0] - logits[1]).max() > 1e-2
    with pytest.raises(ValueError, match="Images of 16 x 30 pixels do not divide into patches of 8"):
        made.apply(params, {}, jnp.ones((1, 16, 30, 3)))


def test_stochastic_depth_skips_whole_branches():
    made, params = model("vit_small_patch16_dinov3", drop_path=0.5)
    for block in params["blocks"].values():  # branches so small that the logits are linear in them
        block["gamma_1"] = block["gamma_2"] = jnp.full(24, 1e-3)
    image = jnp.broadcast_to(jnp.asarray(np.random.RandomState(0).randn(8, 8, 3), jnp.float32), (200, 8, 8, 3))
    apply = jax.jit(made.apply, static_argnames="train")
    drawn = np.asarray(apply(params, {}, image, train=True, key=jax.random.key(3))[0].logits)
    assert len(np.unique(np.round(drawn[:, 0], 6))) == 4, "the last block's two branches, each there or not"
    np.testing.assert_array_equal(drawn, apply(params, {}, image, train=True, key=jax.random.key(3))[0].logits)
    with pytest.raises(ValueError, match="drop_path needs a key"):
        made.apply(params, {}, image, train=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotary": "polar"}, r"rotary='polar' is unknown; known: 'grid', 'unit', 'learned', 'none'"),
        ({"width": 18, "heads": 3}, r"heads of a multiple of 4 channels, not 18 / 3"),
        ({"width": 25}, r"width=25 is not a multiple of heads=3"),
        ({"rotary": "learned"}, r"rotary_halves must be False"),
        ({"activation": "relu"}, r"activation='relu' is unknown; known: 'gelu'.*'split_swiglu'"),
        ({"drop_path": -0.1}, r"drop_path=-0\.1 is outside"),
        ({"class_token": False, "pool": "token"}, r"pool='token' is unknown; known: 'avg'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        create("vit_small_patch16_dinov3", num_classes=5, image_size=16, **SMALL | options)
