import numpy as np
import optax
import pytest

from p10k_jax.training.schedules import make_schedule


def test_warmup_and_cosine():
    rate = make_schedule("cosine", peak=2.0, warmup_steps=4, total_steps=20, end=0.5)
    np.testing.assert_allclose([rate(s) for s in range(4)], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(rate(4), 2.0)
    np.testing.assert_allclose(rate(12), 1.25, rtol=1e-6)
    np.testing.assert_allclose(rate(20), 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cosine", optax.cosine_decay_schedule(2.0, 30, alpha=0.25)),
        ("linear", optax.linear_schedule(2.0, 0.5, 30)),
        ("constant", optax.constant_schedule(2.0)),
    ],
)
def test_curves_are_optaxs(name, theirs):
    rate = make_schedule(name, peak=2.0, warmup_steps=0, total_steps=30, end=0.5)
    np.testing.assert_allclose([rate(s) for s in range(31)], [theirs(s) for s in range(31)], rtol=1e-5)


def test_reciprocal_square_root():
    rate = make_schedule("rsqrt", peak=1.0, warmup_steps=100, total_steps=90_100)
    np.testing.assert_allclose([rate(100), rate(10_100), rate(30_100)], [1, 0.5**0.5, 0.5], rtol=1e-5)


def test_cooldown_ends_any_curve():
    rate = make_schedule("constant", peak=2.0, warmup_steps=2, total_steps=12, cooldown_steps=4, end=0.4)
    expected = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.6, 1.2, 0.8, 0.4]
    np.testing.assert_allclose([rate(s) for s in range(13)], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "step"}, r"Unknown schedule\.name='step'\. Known: cosine, linear, constant, rsqrt"),
        ({"warmup_steps": 20}, r"schedule\.warmup is 20 steps of 20"),
        ({"warmup_steps": 5, "cooldown_steps": 16}, r"schedule\.cooldown is 16 steps, but the warm-up leaves 15"),
        ({"peak": -1.0}, r"learning_rate=-1\.0 must be positive"),
        ({"end": 2.0}, r"schedule\.end=2\.0 is outside 0\.\.1\.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(**{"name": "cosine", "peak": 1.0, "warmup_steps": 0, "total_steps": 20} | settings)
