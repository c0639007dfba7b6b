import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from p10k_jax.data.mixing import mix
from p10k_jax.training.mesh import batch_sharding, make_mesh

BOTH = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
MIXUP = {"mixup_alpha": 0.8, "cutmix_alpha": 0.0}
CUTMIX = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}


def numbered(rows, side=12):
    """Images whose pixels are all the number of their row, plus one."""
    return np.tile(np.arange(1, rows + 1, dtype=np.float32)[:, None, None, None], (1, side, side, 3))


MIX = jax.jit(mix, static_argnames=("mixup_alpha", "cutmix_alpha", "probability", "switch"))


def mixed(images, seed=0, **settings):
    return jax.device_get(MIX(jax.random.key(seed), images, **settings))


def test_mixup_is_the_weighted_mean():
    images = np.random.RandomState(0).uniform(-2, 2, (8, 6, 6, 3)).astype(np.float32)
    ours, partners, weights = mixed(images, **MIXUP)
    assert partners.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    share = weights[:, None, None, None]
    np.testing.assert_allclose(ours, share * images + (1 - share) * images[partners], atol=1e-6)
    assert len(set(weights.tolist())) == 8


def test_cutmix_pastes_a_rectangle_and_weighs_its_exact_area():
    images = numbered(64)
    ours, partners, weights = mixed(images, **CUTMIX)
    own = (ours == images).all(axis=3)
    pasted = (ours == images[partners]).all(axis=3)
    np.testing.assert_array_equal(own, ~pasted)
    np.testing.assert_allclose(weights, own.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(
        pasted.any(axis=2).sum(axis=1) * pasted.any(axis=1).sum(axis=1), pasted.sum(axis=(1, 2))
    )
    assert weights.std() > 0.1


def test_cutmix_weights_are_distributed_as_timms():
    def timm_weight(random, side):
        ratio = np.sqrt(1 - random.beta(1.0, 1.0))
        cut = int(side * ratio)
        edges = [(max(c - cut // 2, 0), min(c + (cut + 1) // 2, side)) for c in random.randint(0, side, 2)]
        return 1 - np.prod([end - start for start, end in edges]) / side**2

    random = np.random.RandomState(0)
    theirs = [timm_weight(random, 32) for _ in range(4000)]
    _, _, weights = mixed(np.zeros((4000, 32, 32, 1), np.float32), **CUTMIX)
    assert stats.ks_2samp(weights, theirs).pvalue > 1e-3


def test_weights_probability_and_switch_are_as_configured():
    images = numbered(4000, side=8)
    _, _, weights = mixed(images, **MIXUP)
    assert stats.kstest(weights, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(weights[::2], weights[1::2])[0, 1]) < 0.08, "rows of a pair are drawn apart"
    ours, _, weights = mixed(images, **BOTH, probability=0.7, switch=0.25)
    is_fraction = (ours % 1 != 0).all(axis=(1, 2, 3))
    np.testing.assert_allclose(is_fraction.mean(), 0.7 * 0.75, atol=0.03)
    np.testing.assert_allclose((weights == 1).mean(), 0.3, atol=0.03)


@pytest.mark.parametrize("rows", [1, 5])
def test_odd_last_row_keeps_itself(rows):
    images = np.random.RandomState(0).uniform(-2, 2, (rows, 4, 4, 3)).astype(np.float32)
    ours, partners, weights = mixed(images, **MIXUP)
    assert partners.tolist() == [1, 0, 3, 2, 4][-rows:] if rows > 1 else [0]
    assert weights[-1] == 1
    np.testing.assert_array_equal(ours[-1], images[-1])


def test_off_is_nothing():
    images = jnp.asarray(numbered(4))
    for settings in ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, BOTH | {"probability": 0.0}):
        ours, partners, weights = mix(jax.random.key(0), images, **settings)
        assert ours is images
        assert partners.tolist() == [1, 0, 3, 2]
        assert weights.tolist() == [1] * 4


def test_a_part_of_a_batch_is_mixed_as_in_the_whole():
    images = np.random.RandomState(0).uniform(-2, 2, (16, 6, 6, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 16)
    whole, _, weights = mixed(images, seed=3, **BOTH)
    part, _, part_weights = jax.jit(functools.partial(mix, **BOTH))(keys[4:8], images[4:8])
    np.testing.assert_array_equal(part_weights, weights[4:8])
    np.testing.assert_allclose(part, whole[4:8], atol=1e-6)


def test_eight_devices_mix_as_one_and_exchange_no_images():
    images = np.random.RandomState(0).uniform(-2, 2, (32, 6, 6, 3)).astype(np.float32)
    expected = mixed(images, **BOTH)
    sharding = batch_sharding(make_mesh())
    step = jax.jit(functools.partial(mix, **BOTH), out_shardings=sharding)
    arguments = jax.random.key(0), jax.device_put(images, sharding)
    for ours, theirs in zip(step(*arguments), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    program = step.lower(*arguments).compile().as_text()
    for exchange in ("all-gather", "all-to-all", "collective-permute"):
        assert exchange not in program


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup_alpha": -0.1}, r"augment\.mix\.mixup_alpha=-0\.1 must be a number of at least 0\.0"),
        ({"cutmix_alpha": float("nan")}, r"augment\.mix\.cutmix_alpha=nan must be"),
        ({"probability": 1.1}, r"augment\.mix\.probability=1\.1 must be a probability"),
        ({"switch": -1.0}, r"augment\.mix\.switch=-1\.0 must be a probability"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        mix(jax.random.key(0), jnp.zeros((2, 4, 4, 3)), **(BOTH | settings))
