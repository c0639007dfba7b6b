"""One training step, a pure function; the caller jits it with shardings and a donated state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, UInt32

from p10k_jax.data.augment import Views
from p10k_jax.models.functional import Model, Tree
from p10k_jax.training.losses import Objective
from p10k_jax.training.schedules import Schedule
from p10k_jax.training.state import State

# Sets what the model and the mixing draw apart from what the views draw out of the same step's key.
_OF_THE_MODEL, _OF_THE_MIXING = 0x6D6F64, 0x6D6978

Metrics = dict[str, Float[Array, ""]]
# (key, images) -> (mixed images, the row that each was mixed with, how much of it is its own)
Mixing = Callable[
    [PRNGKeyArray, Float[Array, "b n n 3"]],
    tuple[Float[Array, "b n n 3"], Int[Array, " b"], Float[Array, " b"]],
]


def step_keys(
    key: UInt32[Array, "2"], step: Int[Array, ""] | int, batch_size: int
) -> tuple[PRNGKeyArray, Key[Array, " b"]]:
    """The key of a step, and those of its rows, which the views draw from.

    Args:
        key: The state's.
        step: Number of steps done before.
        batch_size: Global.
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), step)
    return step_key, jax.random.split(step_key, batch_size)


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    objective: Objective,
    views: Views,
    schedule: Schedule,
    ema_decay: float,
    mixing: Mixing | None = None,
    accumulate: int = 1,
    frozen: Tree | None = None,
    skip_not_finite: bool = False,
) -> Callable[[State, dict[str, Array]], tuple[State, Metrics]]:
    """The step `(state, batch) -> (state, metrics)`.

    The key of step t is the state's key folded with t, and the key of a row follows from the row's number in the
    global batch: the augmentation is a pure function of (seed, t) on any number of devices.

    Args:
        model: Pure functions.
        optimizer: Update rule, its schedule inside.
        objective: Loss of each example.
        views: Canvases to augmented, normalised images.
        schedule: For the `learning_rate` in the metrics.
        ema_decay: Of the averaged weights; 0 keeps none.
        mixing: Mixes rows of images; their losses are mixed alike.
        accumulate: Parts that the batch is taken in, one after the other, to need less memory; must divide it. The
            gradient is that of the whole batch, but BatchNorm sees parts.
        frozen: For every parameter whether it is frozen; no gradient is computed for those.
        skip_not_finite: A step whose loss or gradient is not finite changes nothing but the number of the step.

    Returns:
        A function; its metrics are `loss` (mean over the batch), `accuracy` (top-1 on the augmented batch, for mixed
        images that of their own label), `gradient_norm` (before clipping) and `learning_rate`; with `skip_not_finite`
        also `skipped`, 1.0 or 0.0.

    Raises:
        ValueError: a setting out of range.
    """
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay={ema_decay} is outside [0, 1).")
    if accumulate < 1:
        raise ValueError(f"optimizer.accumulate={accumulate} must be at least 1.")

    def part_loss(params: Tree, batch_stats: Tree, rows: dict[str, Array], key: PRNGKeyArray):
        if frozen is not None:
            params = jax.tree.map(lambda leaf, still: jax.lax.stop_gradient(leaf) if still else leaf, params, frozen)
        images = views(rows["key"], rows["image"], rows["aspect"])
        own = None
        if mixing is not None:
            images, partners, own = mixing(jax.random.fold_in(key, _OF_THE_MIXING), images)
        model_key = jax.random.fold_in(key, _OF_THE_MODEL)
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=model_key)
        losses = objective(outputs, rows["label"], rows["group"])
        if own is not None:
            others = objective(outputs, rows["label"][partners], rows["group"][partners])
            losses = own * losses + (1 - own) * others
        accuracy = (outputs.logits.argmax(axis=1) == rows["label"]).mean()
        return losses.mean(), (accuracy, batch_stats)

    def train_step(state: State, batch: dict[str, Array]) -> tuple[State, Metrics]:
        rows = {name: batch[name] for name in ("image", "aspect", "label", "group")}
        step_key, rows["key"] = step_keys(state["key"], state["step"], len(batch["label"]))
        loss, accuracy, batch_stats, gradients = _over_parts(part_loss, state, rows, step_key, accumulate)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state["step"]),
        }
        new = {"params": params, "batch_stats": batch_stats}
        ema = average(state["ema"], new, state["step"], ema_decay) if ema_decay else {}
        new |= {"opt_state": opt_state, "ema": ema}
        if skip_not_finite:
            good = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])
            old = {key: state[key] for key in new}
            new = jax.tree.map(lambda after, before: jnp.where(good, after, before), new, old)
            metrics["skipped"] = 1.0 - good.astype(jnp.float32)
        return state | new | {"step": state["step"] + 1}, metrics

    return train_step


def _over_parts(part_loss, state: State, rows: dict[str, Array], key: PRNGKeyArray, parts: int):
    """(loss, accuracy, batch_stats, gradients) of the batch, taken in so many parts."""
    gradient = jax.value_and_grad(part_loss, has_aux=True)
    if parts == 1:
        (loss, (accuracy, batch_stats)), gradients = gradient(state["params"], state["batch_stats"], rows, key)
        return loss, accuracy, batch_stats, gradients
    # Part i holds the rows i, i + parts, ...: where a device's share of the batch divides into the parts, as training
    # asks, none of its rows leaves it.
    split = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), rows)

    def add(carry, part):
        sums, batch_stats = carry
        number, rows = part
        (loss, (accuracy, batch_stats)), gradients = gradient(
            state["params"], batch_stats, rows, jax.random.fold_in(key, number)
        )
        return (jax.tree.map(jnp.add, sums, (loss, accuracy, gradients)), batch_stats), None

    zero = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state["params"]))
    (sums, batch_stats), _ = jax.lax.scan(add, (zero, state["batch_stats"]), (jnp.arange(parts), split))
    loss, accuracy, gradients = jax.tree.map(lambda leaf: leaf / parts, sums)
    return loss, accuracy, batch_stats, gradients


def average(average, new, step, decay: float):
    """Exponential moving average whose decay warms up as (1 + t) / (10 + t), so that the random start is forgotten."""
    step = step.astype(jnp.float32)
    weight = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, value: weight * old + (1 - weight) * value, average, new)
