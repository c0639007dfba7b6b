"""The train state, a plain dict: `step, params, batch_stats, opt_state, ema, key`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from p10k_jax.models.functional import Model, Tree
from p10k_jax.weights.fit import overlay

State = dict[str, Any]


def initial_state(
    pretrained: State, *, model: Model, optimizer: optax.GradientTransformation, seed: int, ema: bool
) -> State:
    """The state before the first step; pure, so that it runs under `jax.eval_shape` and under `jax.jit`.

    Make it by `eval_shape` -> shardings -> `jit(out_shardings=...)`: then nothing is ever whole on one device.

    Args:
        pretrained: `params` and `batch_stats` (or parts of them) to start from instead of chance; {} for none.
        model, optimizer: What the state is of.
        seed: 0..2**32-1.
        ema: Whether averaged weights are kept; they start as a copy.

    Returns:
        `step` int32[], `params`, `batch_stats`, `opt_state`, `ema` (a copy of both, or {}), `key` uint32[2] (raw
        threefry key that the augmentations of all steps derive from).
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} is outside 0..2**32-1.")
    key_model, key_steps = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
    weights = initial_weights(model, key_model, ema=ema, pretrained=pretrained)
    return {
        "step": jnp.zeros((), jnp.int32),
        **weights,
        "opt_state": optimizer.init(weights["params"]),
        "key": jax.random.key_data(key_steps),
    }


def initial_weights(model: Model, key: Array, *, ema: bool, pretrained: State | None = None) -> State:
    """The part of the state that evaluation needs: `params`, `batch_stats`, `ema`."""
    params, batch_stats = model.init(key)
    weights = overlay({"params": params, "batch_stats": batch_stats}, pretrained or {})
    return weights | {"ema": jax.tree.map(jnp.copy, weights) if ema else {}}


def evaluation_weights(state: State) -> tuple[Tree, Tree]:
    """What is evaluated: the averaged weights where there are any, else the latest."""
    weights = state["ema"] or state
    return weights["params"], weights["batch_stats"]
