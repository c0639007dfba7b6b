import functools

import jax
import numpy as np
import pytest
from scipy import stats

from p10k_jax.data import policies
from p10k_jax.data.image_ops import apply_operation
from p10k_jax.data.policies import AugMix, RandAugment

FILL = np.float32([124, 116, 104])
IMAGE = np.random.RandomState(0).uniform(0, 255, (24, 24, 3)).astype(np.float32)
OPERATION = jax.jit(apply_operation, static_argnums=1)


def drawn(draw, settings, number=4000):
    keys = jax.random.split(jax.random.key(0), number)
    return jax.device_get(jax.jit(jax.vmap(functools.partial(draw, settings=settings)))(keys))


def test_randaugment_draws_as_configured():
    settings = RandAugment(num_ops=3, magnitude=8.0, magnitude_std=1.5, probability=0.6)
    chosen, magnitudes, signs = drawn(policies.draw_randaugment, settings)
    assert chosen.shape == magnitudes.shape == signs.shape == (4000, 3)
    applied = chosen[chosen >= 0]
    np.testing.assert_allclose(len(applied) / chosen.size, 0.6, atol=0.02)
    assert stats.chisquare(np.bincount(applied, minlength=15)).pvalue > 1e-3
    assert len(policies.RANDAUGMENT_OPERATIONS) == 15
    # A normal distribution, what lies above 10 moved to 10.
    below = magnitudes[magnitudes < 10]
    assert stats.kstest(below, stats.truncnorm(-np.inf, (10 - 8) / 1.5, 8, 1.5).cdf).pvalue > 1e-3
    np.testing.assert_allclose((magnitudes == 10).mean(), stats.norm.sf(10, 8, 1.5), atol=0.01)
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 0.03
    # Everything is drawn apart from everything else.
    together = np.concatenate([chosen, magnitudes, signs], axis=1).T
    assert abs(np.corrcoef(together) - np.eye(9)).max() < 0.06


def test_randaugment_applies_what_it_draws():
    settings = RandAugment(num_ops=2, probability=1.0)
    augment = jax.jit(functools.partial(policies.apply_randaugment, settings=settings, fill=FILL))
    for seed in range(3):
        expected = IMAGE
        for operation in zip(*policies.draw_randaugment(jax.random.key(seed), settings), strict=True):
            names = policies.RANDAUGMENT_OPERATIONS
            expected = OPERATION(expected, names, *operation, fill=FILL, max_translation=0.45)
        ours = augment(jax.random.key(seed), IMAGE)
        np.testing.assert_allclose(ours, expected, atol=1e-2)
        assert np.abs(ours - IMAGE).mean() > 1
    assert (drawn(policies.draw_randaugment, settings._replace(probability=0.0), 50).chosen == -1).all()


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_augmix_draws_as_configured(alpha):
    settings = AugMix(width=3, depth=(1, 3), magnitude=4.0, alpha=alpha)
    share, weights, (chosen, magnitudes, signs) = drawn(policies.draw_augmix, settings)
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    for chain in range(3):  # of a Dirichlet
        assert stats.kstest(weights[:, chain], stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-3
    assert chosen.shape == magnitudes.shape == signs.shape == (4000, 3, 3)
    depths = (chosen >= 0).sum(axis=2)
    assert stats.chisquare(np.bincount(depths.ravel(), minlength=4)[1:]).pvalue > 1e-3
    assert depths.min() == 1
    np.testing.assert_array_equal((chosen >= 0).argmin(axis=2)[depths < 3], depths[depths < 3])
    assert len(policies.AUGMIX_OPERATIONS) == 9
    assert stats.chisquare(np.bincount(chosen[chosen >= 0], minlength=9)).pvalue > 1e-3
    assert stats.kstest(magnitudes.ravel(), stats.uniform(0, 4).cdf).pvalue > 1e-3


def test_augmix_mixes_what_it_draws():
    settings = AugMix(width=2, depth=(1, 2), magnitude=9.0)
    augment = jax.jit(functools.partial(policies.apply_augmix, settings=settings, fill=FILL))
    for seed in range(3):
        share, weights, chains = policies.draw_augmix(jax.random.key(seed), settings)
        expected = (1 - share) * IMAGE
        for chain in range(2):
            changed = IMAGE
            for step in range(2):
                operation = (values[chain, step] for values in chains)
                names = policies.AUGMIX_OPERATIONS
                changed = OPERATION(changed, names, *operation, fill=FILL, max_translation=1 / 3)
            expected = expected + share * weights[chain] * changed
        ours = augment(jax.random.key(seed), IMAGE)
        np.testing.assert_allclose(ours, expected, atol=1e-2)
        assert np.abs(ours - IMAGE).mean() > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RandAugment(num_ops=-1), r"augment\.randaugment\.num_ops=-1 must be a whole number"),
        (RandAugment(num_ops=2.0), r"augment\.randaugment\.num_ops=2\.0 must be a whole number"),
        (RandAugment(magnitude=11.0), r"augment\.randaugment\.magnitude=11\.0 is outside 0\.\.10"),
        (RandAugment(magnitude_std=-0.1), r"augment\.randaugment\.magnitude_std=-0\.1 must be"),
        (RandAugment(probability=1.5), r"augment\.randaugment\.probability=1\.5 must be a probability"),
        (AugMix(width=1.5), r"augment\.augmix\.width=1\.5 must be a whole number"),
        (AugMix(depth=(0, 3)), r"augment\.augmix\.depth=\(0, 3\) must be two whole numbers"),
        (AugMix(magnitude=-1.0), r"augment\.augmix\.magnitude=-1\.0 is outside 0\.\.10"),
        (AugMix(alpha=0.0), r"augment\.augmix\.alpha=0\.0 must be above 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        settings.check()
