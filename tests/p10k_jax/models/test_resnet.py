"""What a ResNet leaves to chance, and its pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from p10k_jax.models import create
from p10k_jax.models.layers import drop_path_rates, kept_branches
from p10k_jax.models.resnet import Block, BlockSettings
from p10k_jax.training.mesh import batch_sharding, make_mesh

NARROW = {"blocks": (1, 1, 1, 1), "widths": (16, 16, 16, 16)}
IMAGES = jnp.asarray(np.random.RandomState(0).randn(4, 32, 32, 3), jnp.float32)


def test_rates_rise_from_zero_to_the_last():
    key = jax.random.key(0)
    np.testing.assert_allclose(drop_path_rates(0.3, 4, train=True, key=key), [0, 0.1, 0.2, 0.3])
    np.testing.assert_array_equal(drop_path_rates(0.3, 4, train=False, key=None), np.zeros(4))
    with pytest.raises(ValueError, match="drop_path needs a key"):
        drop_path_rates(0.3, 4, train=True, key=None)


def test_what_is_kept_is_scaled_and_depends_on_key_and_block_alone():
    key = jax.random.key(1)
    kept = np.asarray(kept_branches(key, 3, 0.2, 2, 5000))
    assert set(np.unique(kept)) == {0.0, np.float32(1.25)}
    assert abs(kept.mean() - 1) < 4 * 0.5 / 100
    np.testing.assert_array_equal(kept, kept_branches(key, 3, 0.2, 2, 5000))
    assert abs(np.corrcoef(kept.ravel(), np.ravel(kept_branches(key, 4, 0.2, 2, 5000)))[0, 1]) < 0.05
    np.testing.assert_array_equal(kept_branches(None, 3, 0.0, 2, 5), np.ones((2, 5)))


@pytest.mark.parametrize("squeeze", [0.0, 0.25])
def test_a_skipped_example_leaves_a_block_as_it_came(squeeze):
    settings = BlockSettings(True, 1, 64, squeeze, average_shortcut=False, antialias=False, ghost_batch=0)
    block = Block(32, 8, 1, settings, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.bn3.scale[...] = jnp.ones(32)
    images = jnp.asarray(np.random.RandomState(1).randn(3, 4, 4, 32), jnp.float32)
    out = block(images, jnp.asarray([0.0, 1.0, 2.0]), train=False)
    assert block.shortcut == "identity"
    np.testing.assert_array_equal(out[0], np.maximum(images[0], 0))
    whole = block(images, jnp.ones(3), train=False)
    np.testing.assert_array_equal(out[1], whole[1])
    branch = np.asarray(whole[2] - images[2])
    seen = np.asarray(whole[2] > 0) & np.asarray(out[2] > 0)
    np.testing.assert_allclose(np.asarray(out[2] - images[2])[seen], 2 * branch[seen], atol=1e-5)
    assert np.abs(branch).max() > 0.1


def test_training_draws_from_the_key():
    made = create("resnet-18", num_classes=0, image_size=32, drop_path=0.5, **NARROW)
    params, stats = jax.jit(made.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)  # branches start at zero
    apply = jax.jit(made.apply, static_argnames="train")
    one, again, other = (
        np.asarray(apply(params, stats, IMAGES, train=True, key=jax.random.key(i))[0].embedding) for i in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3
    evaluated = apply(params, stats, IMAGES)[0].embedding
    np.testing.assert_array_equal(evaluated, apply(params, stats, IMAGES, key=jax.random.key(0))[0].embedding)


def test_generalised_mean_of_power_one_is_the_mean():
    mean = create("resnet-18", num_classes=0, image_size=64, **NARROW)
    gem = create("resnet-18", num_classes=0, image_size=64, pool="gem", **NARROW)
    images = jnp.asarray(np.random.RandomState(0).randn(4, 64, 64, 3), jnp.float32)
    params, stats = jax.jit(gem.init)(jax.random.key(0))
    rest = {name: part for name, part in params.items() if name != "gem_pool"}
    expected = jax.jit(mean.apply)(rest, stats, images)[0].embedding
    apply = jax.jit(gem.apply)
    cubic = apply(params, stats, images)[0].embedding
    one = apply(params | {"gem_pool": {"p": jnp.ones(1)}}, stats, images)[0].embedding
    np.testing.assert_allclose(one, expected, rtol=1e-4, atol=2e-6)
    assert float((cubic - expected).min()) > -2e-6, "the generalised mean grows with its power"
    assert float((cubic - expected).max()) > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "wide"}, r"stem='wide' is unknown; known: 'plain', 'deep', 'tiered'"),
        ({"pool": "max"}, r"pool='max' is unknown; known: 'avg', 'gem'"),
        ({"antialias": True, "stem_pool": "convolution"}, "antialias exclude each other"),
        ({"blocks": (1, 1)}, "give four stages"),
        ({"groups": 32}, "basic blocks have no groups"),
        ({"drop_path": 1.0}, r"drop_path=1\.0 is outside"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        create("resnet-18", num_classes=5, image_size=32, **options)


@pytest.mark.parametrize(("ghost_batch", "exchanges"), [(0, True), (2, False), (4, True)])
def test_devices_with_whole_ghosts_exchange_no_statistics(ghost_batch, exchanges):
    model = create("resnet-18", num_classes=0, image_size=32, ghost_batch=ghost_batch, **NARROW)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    mesh = make_mesh()
    images = jax.device_put(np.tile(IMAGES, (4, 1, 1, 1)), batch_sharding(mesh))  # two a device

    def embedding(params, stats, images):
        return model.apply(params, stats, images, train=True, key=None)[0].embedding

    program = jax.jit(embedding, out_shardings=batch_sharding(mesh)).lower(params, stats, images).compile()
    assert ("all-reduce" in program.as_text()) == exchanges


def test_negative_ghosts_are_refused():
    with pytest.raises(ValueError, match="ghost_batch=-2: give a number of images"):
        create("resnet-18", num_classes=0, image_size=32, ghost_batch=-2, **NARROW)


def test_frozen_norms_keep_what_they_remember_in_training():
    model = create("resnet-18", num_classes=3, image_size=32, frozen_norms=True, **NARROW)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    params["fc"]["kernel"] = jax.random.normal(jax.random.key(1), params["fc"]["kernel"].shape)
    outputs, after = model.apply(params, stats, IMAGES, train=True)
    np.testing.assert_array_equal(outputs.logits, model.apply(params, stats, IMAGES)[0].logits)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
