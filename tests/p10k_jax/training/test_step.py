"""The step, the state and the mesh together: one device and eight give the same training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.data.augment import Normalisation, training_views
from p10k_jax.data.batches import Loading, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.order import TrainingOrder
from p10k_jax.models import create
from p10k_jax.training.losses import make_loss
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated, state_shardings
from p10k_jax.training.optimizer import make_optimizer, warmup_cosine
from p10k_jax.training.state import evaluation_weights, initial_state
from p10k_jax.training.step import average, make_train_step
from tests.fakes import memory_split

SPLIT = memory_split(48)
MODELS = {
    "vit-Ti/8": {"width": 48, "depth": 2},
    "vit-S/8": {"width": 48, "depth": 2, "drop_path": 0.5, "registers": 2, "layer_scale": 0.1},
    "resnet-18": {"blocks": (1, 1, 1, 1)},
}


def train(name, mesh, *, steps=4, rules=(), ema_decay=0.9, optimizer="adamw"):
    """Losses of a short training, the final state, and its shardings."""
    model = create(name, num_classes=4, image_size=32, **MODELS[name])
    schedule = warmup_cosine(peak=0.01, warmup_steps=1, total_steps=20)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    optimizer, _ = make_optimizer(optimizer, schedule, params, weight_decay=0.05, clip_norm=1.0)
    settings = {"model": model, "optimizer": optimizer, "seed": 0, "ema": ema_decay > 0}
    init = functools.partial(initial_state, {}, **settings)
    shardings = state_shardings(mesh, jax.eval_shape(init), rules)
    views = training_views(image_size=32, scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5, statistics=Normalisation())
    step = make_train_step(
        model, optimizer, loss=make_loss("softmax"), views=views, schedule=schedule, ema_decay=ema_decay
    )
    step = jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
    state = jax.jit(init, out_shardings=shardings)()
    settings = {
        "batch_size": 16,
        "canvas_size": 36,
        "steps": range(steps),
        "loading": Loading(2),
        "order": TrainingOrder(0, 48),
    }
    losses = []
    for batch in global_batches(SPLIT, sharding=batch_sharding(mesh), report=DecodeReport(), **settings):
        state, metrics = step(state, batch.device)
        losses.append(float(metrics["loss"]))
    return losses, state, shardings


@functools.cache
def on_one_device(name, optimizer="adamw"):
    losses, state, _ = train(name, make_mesh(1, devices=jax.devices()[:1]), optimizer=optimizer)
    return losses, jax.device_get(state)


@functools.cache
def on_eight_devices(name, sizes, optimizer="adamw"):
    losses, state, _ = train(name, make_mesh(*sizes), optimizer=optimizer)
    return losses, state


@pytest.mark.parametrize(
    ("name", "sizes", "optimizer"),
    [
        ("vit-Ti/8", (8, 1, 1), "adamw"),
        ("vit-Ti/8", (2, 2, 2), "adamw"),
        ("vit-S/8", (2, 4, 1), "muon"),
        ("resnet-18", (2, 4, 1), "adamw"),
    ],
)
def test_eight_devices_train_as_one(name, sizes, optimizer):
    losses, expected = on_one_device(name, optimizer)
    sharded_losses, state = on_eight_devices(name, sizes, optimizer)
    np.testing.assert_allclose(sharded_losses, losses, rtol=2e-4)
    # AdamW divides by the gradient's own size, so a weight whose gradient is rounding noise moves by noise: compare
    # the bulk of each tensor.
    for ours, theirs in zip(jax.tree.leaves(state["params"]), jax.tree.leaves(expected["params"]), strict=True):
        assert np.mean(np.abs(np.asarray(ours) - theirs)) < 2e-3


def test_first_loss_is_that_of_no_knowledge():
    losses, _ = on_one_device("vit-Ti/8")
    np.testing.assert_allclose(losses[0], np.log(4), rtol=1e-5)


def test_fsdp_splits_parameters_and_moments():
    _, state = on_eight_devices("resnet-18", (2, 4, 1))
    kernel = state["params"]["layer4"]["0"]["conv1"]["kernel"]
    moment = next(
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["opt_state"])
        if "layer4" in str(path) and leaf.shape == kernel.shape
    )
    for array in (kernel, moment, state["ema"]["params"]["layer4"]["0"]["conv1"]["kernel"]):
        assert array.addressable_shards[0].data.size == array.size // 4
    assert state["params"]["fc"]["kernel"].sharding.is_fully_replicated, "small parameters stay whole"


def test_average_follows_its_definition():
    _, one, _ = train("vit-Ti/8", make_mesh(), steps=1)
    head = one["params"]["head"]["bias"]
    # The head starts at zero, and the first step's weight on the old average is (1 + 0) / (10 + 0).
    np.testing.assert_allclose(one["ema"]["params"]["head"]["bias"], 0.9 * np.asarray(head), rtol=1e-5)
    params, _ = evaluation_weights(one)
    np.testing.assert_array_equal(params["head"]["bias"], one["ema"]["params"]["head"]["bias"])


def test_average_decays_as_configured_once_it_is_warm():
    old, new = {"a": jnp.float32(1.0)}, {"a": jnp.float32(2.0)}
    np.testing.assert_allclose(average(old, new, jnp.int32(10_000), 0.9)["a"], 1.1, rtol=1e-6)
    np.testing.assert_allclose(average(old, new, jnp.int32(2), 0.9)["a"], 1.75, rtol=1e-6)


def test_without_average_the_latest_weights_are_evaluated():
    _, state, _ = train("vit-Ti/8", make_mesh(), steps=1, ema_decay=0.0)
    assert state["ema"] == {}
    np.testing.assert_array_equal(evaluation_weights(state)[0]["head"]["bias"], state["params"]["head"]["bias"])
    assert int(state["step"]) == 1
    assert jnp.issubdtype(state["key"].dtype, jnp.uint32)
