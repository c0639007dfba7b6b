"""One training step, a pure function; the caller jits it with shardings and a donated state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from p10k_jax.data.augment import Views
from p10k_jax.models.functional import Model
from p10k_jax.training.losses import Loss
from p10k_jax.training.optimizer import Schedule
from p10k_jax.training.state import State

# Sets what the model draws apart from what the views draw out of the same step's key.
_OF_THE_MODEL = 0x6D6F64

Metrics = dict[str, Float[Array, ""]]


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss,
    views: Views,
    schedule: Schedule,
    ema_decay: float,
) -> Callable[[State, dict[str, Array]], tuple[State, Metrics]]:
    """The step `(state, batch) -> (state, metrics)`.

    The key of step t is the state's key folded with t, and the key of a row follows from the row's number in the
    global batch: the augmentation is a pure function of (seed, t) on any number of devices.

    Args:
        model: Pure functions.
        optimizer: Update rule, its schedule inside.
        loss: Per-example loss.
        views: Canvases to augmented, normalised images.
        schedule: For the `learning_rate` in the metrics.
        ema_decay: Of the averaged weights; 0 keeps none.

    Returns:
        A function; its metrics are `loss` (mean over the batch), `accuracy` (top-1 on the augmented batch),
        `gradient_norm` (before clipping) and `learning_rate`.
    """

    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay={ema_decay} is outside [0, 1).")

    def train_step(state: State, batch: dict[str, Array]) -> tuple[State, Metrics]:
        step_key = jax.random.fold_in(jax.random.wrap_key_data(state["key"], impl="threefry2x32"), state["step"])
        images = views(step_key, batch["image"], batch["aspect"])
        model_key = jax.random.fold_in(step_key, _OF_THE_MODEL)

        def mean_loss(params):
            outputs, batch_stats = model.apply(params, state["batch_stats"], images, train=True, key=model_key)
            return loss(outputs.logits, batch["label"]).mean(), (outputs.logits, batch_stats)

        (value, (logits, batch_stats)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state["params"])
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {
            "loss": value,
            "accuracy": (logits.argmax(axis=1) == batch["label"]).mean(),
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state["step"]),
        }
        new = {"params": params, "batch_stats": batch_stats}
        ema = average(state["ema"], new, state["step"], ema_decay) if ema_decay else {}
        return state | new | {"step": state["step"] + 1, "opt_state": opt_state, "ema": ema}, metrics

    return train_step


def average(average, new, step, decay: float):
    """Exponential moving average whose decay warms up as (1 + t) / (10 + t), so that the random start is forgotten."""
    step = step.astype(jnp.float32)
    weight = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, value: weight * old + (1 - weight) * value, average, new)
