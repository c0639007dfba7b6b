import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from p10k_jax.training.optimizer import frozen_parameters, make_optimizer

PARAMS = {"fc": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5, 0.25])}}
GRADIENTS = {"fc": {"kernel": jnp.array([[0.3, 0.1]]), "bias": jnp.array([-0.2, 0.4])}}
NO_DECAY = ("bias$",)


def constant(rate):
    return lambda step: rate


def run(optimizer, steps):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_adamw_equals_its_paper():
    optimizer, _ = make_optimizer("adamw", constant(0.1), PARAMS, weight_decay=0.01, no_decay=NO_DECAY, b2=0.99)
    params = run(optimizer, 3)
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        value, g = np.asarray(PARAMS["fc"][name], np.float64), np.asarray(GRADIENTS["fc"][name], np.float64)
        m, v = 0.0, 0.0
        for t in range(1, 4):
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            value = value - 0.1 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8) + decay * value)
        np.testing.assert_allclose(params["fc"][name], value, rtol=1e-5)


def test_sgd_equals_torchs_nesterov():
    optimizer, _ = make_optimizer("sgd", constant(0.1), PARAMS, weight_decay=0.01, no_decay=NO_DECAY)
    params = run(optimizer, 3)
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        value, gradient, velocity = np.asarray(PARAMS["fc"][name]), np.asarray(GRADIENTS["fc"][name]), 0.0
        for _ in range(3):
            g = gradient + decay * value
            velocity = 0.9 * velocity + g
            value = value - 0.1 * (g + 0.9 * velocity)
        np.testing.assert_allclose(params["fc"][name], value, rtol=1e-5)


def test_muon_moves_hidden_kernels_along_their_polar_factor_and_all_else_as_nesterovs_adamw():
    random = np.random.RandomState(0)
    shapes = {
        "blocks": {"0": {"fc1": {"kernel": (24, 96), "bias": (96,)}, "conv": {"kernel": (3, 3, 8, 16)}}},
        "head": {"kernel": (24, 10)},
        "pos_embed": (1, 5, 24),
    }
    draw = functools.partial(
        jax.tree.map, lambda shape: jnp.asarray(random.randn(*shape), jnp.float32), is_leaf=lambda x: type(x) is tuple
    )
    params, gradients = draw(shapes), draw(shapes)
    settings = {"weight_decay": 0.5, "no_decay": ("bias$", "pos_embed$"), "b2": 0.99, "momentum": 0.95}
    optimizer, _ = make_optimizer("muon", constant(0.1), params, **settings)
    mask = jax.tree.map(lambda leaf: leaf.ndim in (2, 4), params)
    reference = optax.nadamw(0.1, b2=0.99, weight_decay=0.5, mask=mask)
    moves = {}
    for name, rule in (("muon", optimizer), ("adamw", reference)):
        moves[name], _ = jax.jit(rule.update)(gradients, rule.init(params), params)
    hidden = moves["muon"]["blocks"]["0"]
    for path in (("fc1", "kernel"), ("conv", "kernel")):
        move, value, gradient = (t[path[0]][path[1]] for t in (hidden, params["blocks"]["0"], gradients["blocks"]["0"]))
        inputs, outputs = math.prod(move.shape[:-1]), move.shape[-1]
        direction = (-move / 0.1 - 0.5 * value).reshape(inputs, outputs)
        u, _, vt = np.linalg.svd(np.asarray(gradient).reshape(inputs, outputs), full_matrices=False)
        in_its_basis = u.T @ direction @ vt.T / (0.2 * math.sqrt(max(inputs, outputs)))
        # Five Newton-Schulz steps bring every singular value into the neighbourhood of 1, and leave the vectors alone.
        assert np.all((np.diag(in_its_basis) > 0.65) & (np.diag(in_its_basis) < 1.25))
        np.testing.assert_allclose(in_its_basis - np.diag(np.diag(in_its_basis)), 0, atol=1e-3)
    for tree in moves.values():
        del tree["blocks"]["0"]["fc1"]["kernel"], tree["blocks"]["0"]["conv"]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), moves["muon"], moves["adamw"])


def test_rates_by_layer_and_by_pattern():
    params = {
        "blocks": {str(i): {"kernel": jnp.full((2, 3), 1.0 + i)} for i in range(2)},
        "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
        "pos_embed": jnp.ones((1, 4, 3)),
    }
    gradients = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape), params)
    settings = {"weight_decay": 0.1, "layer_decay": 0.5, "rates": (("bias$", 3.0), ("pos_embed", 0.0))}
    optimizer, text = make_optimizer("adamw", constant(0.01), params, **settings)
    moves, _ = optimizer.update(gradients, optimizer.init(params), params)
    factors = {"blocks": {"0": {"kernel": 0.25}, "1": {"kernel": 0.5}}, "head": {"kernel": 1.0, "bias": 3.0}}
    factors["pos_embed"] = 0.0

    def alone(value, gradient, factor):  # torch's parameter groups: one optimizer a group
        group = optax.adamw(0.01 * factor, weight_decay=0.1)
        return group.update(gradient, group.init(value), value)[0]

    expected = jax.tree.map(alone, params, gradients, factors)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-12), moves, expected)
    assert "decay 0.1, rate x 0.25:    1 leaves,             6 parameters, e.g. blocks.0.kernel" in text
    assert "frozen:    1 leaves,            12 parameters, e.g. pos_embed" in text


def test_what_is_frozen_does_not_count_in_the_norm_that_clips():
    settings = {"weight_decay": 0.0, "clip_norm": 1.0, "momentum": 0.0, "rates": (("kernel", 0.0),)}
    optimizer, _ = make_optimizer("sgd", constant(0.1), PARAMS, **settings)
    gradients = {"fc": {"kernel": jnp.full((1, 2), 100.0), "bias": jnp.array([0.3, -0.4])}}
    moves, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(moves["fc"]["bias"], [-0.03, 0.04], rtol=1e-6)
    np.testing.assert_array_equal(moves["fc"]["kernel"], 0)


def test_clipping_bounds_the_global_norm():
    optimizer, _ = make_optimizer("sgd", constant(1.0), PARAMS, weight_decay=0.0, clip_norm=0.01, momentum=0.0)
    moved = jax.tree.map(lambda a, b: a - b, PARAMS, run(optimizer, 1))
    np.testing.assert_allclose(optax.tree.norm(moved), 0.01, rtol=1e-5)


def test_table_tells_who_decays():
    _, table = make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.3, no_decay=NO_DECAY)
    assert "decay 0.3:    1 leaves,             2 parameters, e.g. fc.kernel" in table
    assert "no decay:    1 leaves,             2 parameters, e.g. fc.bias" in table


def test_bad_settings():
    with pytest.raises(ValueError, match=r"optimizer\.layer_decay=0\.0 is outside"):
        make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.0, layer_decay=0.0)
    with pytest.raises(ValueError, match=r"optimizer\.rates: pattern 'gamma' matches no parameter"):
        make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.0, rates=(("gamma", 0.0),))
    with pytest.raises(ValueError, match=r"optimizer\.rates: \('fc', -1\.0\) is no pair"):
        make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.0, rates=(("fc", -1.0),))
    with pytest.raises(ValueError, match=r"Unknown optimizer 'adam'. Known: adamw, adafactor, lamb, lion, muon, sgd"):
        make_optimizer("adam", constant(1.0), PARAMS, weight_decay=0.0)
    with pytest.raises(ValueError, match=r"optimizer\.no_decay: pattern 'gamma\$' matches no parameter.*fc\.bias"):
        make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.0, no_decay=("gamma$",))
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        make_optimizer("adamw", constant(1.0), PARAMS, weight_decay=0.0, no_decay=("(",))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("lamb", lambda mask: optax.lamb(0.1, b1=0.8, b2=0.99, weight_decay=0.5, mask=mask)),
        ("lion", lambda mask: optax.lion(0.1, b1=0.8, b2=0.99, weight_decay=0.5, mask=mask)),
    ],
)
def test_optaxs_optimizers_are_optaxs(name, theirs):
    optimizer, _ = make_optimizer(name, constant(0.1), PARAMS, weight_decay=0.5, no_decay=NO_DECAY, b1=0.8, b2=0.99)
    expected = run(theirs({"fc": {"kernel": True, "bias": False}}), 3)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), run(optimizer, 3), expected)


def test_adafactor_is_optaxs_with_decay_times_the_rate():
    params = {"fc": {"kernel": jnp.asarray(np.random.RandomState(0).randn(130, 140), jnp.float32)}}
    gradients = {"fc": {"kernel": jnp.asarray(np.random.RandomState(1).randn(130, 140), jnp.float32)}}
    optimizer, _ = make_optimizer("adafactor", constant(0.1), params, weight_decay=0.5)
    state = optimizer.init(params)
    assert all(leaf.size <= 140 for leaf in jax.tree.leaves(state) if leaf.shape != (130, 140)), "factored"
    moves, _ = optimizer.update(gradients, state, params)
    theirs = optax.adafactor(0.1, multiply_by_parameter_scale=False, momentum=0.9)
    expected, _ = theirs.update(gradients, theirs.init(params), params)
    expected = expected["fc"]["kernel"] - 0.1 * 0.5 * params["fc"]["kernel"]
    np.testing.assert_allclose(moves["fc"]["kernel"], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lamb", "lion", "muon", "sgd"])
def test_what_is_frozen_stays_and_has_no_moments(name):
    params = {"blocks": {"0": {"kernel": jnp.ones((3, 4))}}, "head": {"kernel": jnp.ones((5, 7)), "bias": jnp.ones(7)}}
    rates = ((r"^blocks", 0.0),)
    assert frozen_parameters(params, rates) == {
        "blocks": {"0": {"kernel": True}},
        "head": {"kernel": False, "bias": False},
    }
    optimizer, _ = make_optimizer(name, constant(0.1), params, weight_decay=0.1, rates=rates, clip_norm=1.0)
    state = optimizer.init(params)
    assert not [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3, 4)]
    moves, _ = optimizer.update(jax.tree.map(lambda leaf: leaf + 1, params), state, params)
    np.testing.assert_array_equal(moves["blocks"]["0"]["kernel"], 0)
    assert float(jnp.abs(moves["head"]["kernel"]).min()) > 0


def test_the_head_learns_first_and_all_else_comes_in():
    params = {"blocks": {"0": {"kernel": jnp.ones(2)}}, "head": {"bias": jnp.ones(2)}, "neck": {"scale": jnp.ones(2)}}
    optimizer, _ = make_optimizer("sgd", constant(0.5), params, weight_decay=0.0, momentum=0.0, head_first_steps=4)
    state, moved = optimizer.init(params), []
    for _ in range(10):
        moves, state = optimizer.update(params, state, params)
        moved.append(-float(moves["blocks"]["0"]["kernel"][0]))
        np.testing.assert_allclose(moves["head"]["bias"], -0.5)
        np.testing.assert_allclose(moves["neck"]["scale"], -0.5)
    np.testing.assert_allclose(moved, [0, 0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lamb", "lion", "muon", "sgd"])
def test_first_moments_in_bfloat16_take_half_the_memory_and_lead_to_the_same_place(name):
    settings = {"weight_decay": 0.01, "no_decay": NO_DECAY}
    plain, _ = make_optimizer(name, constant(0.01), PARAMS, **settings)
    halved, _ = make_optimizer(name, constant(0.01), PARAMS, moment_dtype="bfloat16", **settings)
    size = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    kept = [leaf for leaf in jax.tree.leaves(halved.init(PARAMS)) if leaf.dtype == jnp.bfloat16]
    assert sum(leaf.size for leaf in kept) == size
    moved = jax.tree.map(lambda a, b: np.asarray(a - b), run(plain, 3), PARAMS)
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a - b, c, rtol=0.02, atol=2e-5), run(halved, 3), PARAMS, moved
    )


def test_an_unknown_moment_dtype_says_so():
    with pytest.raises(ValueError, match=r"optimizer\.moment_dtype='float8' is unknown; known: 'float32', 'bfloat16'"):
        make_optimizer("adamw", constant(0.1), PARAMS, weight_decay=0.0, moment_dtype="float8")
