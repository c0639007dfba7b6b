"""The step, the state and the mesh together: any number of devices gives the same training."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from p10k_jax.data.augment import Normalisation, training_views
from p10k_jax.data.batches import Loading, global_batches
from p10k_jax.data.decode import DecodeReport
from p10k_jax.data.mixing import mix
from p10k_jax.data.order import TrainingOrder
from p10k_jax.models import HeadSettings, create
from p10k_jax.models.padding import cut, padded_classes
from p10k_jax.training.class_sharding import class_sharded
from p10k_jax.training.losses import make_loss, make_objective
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated, state_shardings
from p10k_jax.training.optimizer import frozen_parameters, make_optimizer
from p10k_jax.training.schedules import make_schedule
from p10k_jax.training.state import evaluation_weights, initial_state
from p10k_jax.training.step import average, make_train_step
from tests.fakes import memory_split

SPLIT = memory_split(48)
MODELS = {
    "vit-Ti/8": {"width": 48, "depth": 2},
    "vit-S/8": {"width": 48, "depth": 2, "drop_path": 0.5, "registers": 2, "layer_scale": 0.1},
    "resnet-18": {"blocks": (1, 1, 1, 1)},
}


MIXING = functools.partial(mix, mixup_alpha=0.8, cutmix_alpha=1.0)


def train(
    name,
    mesh,
    *,
    steps=4,
    rules=(),
    ema_decay=0.9,
    optimizer="adamw",
    head=HeadSettings(),  # noqa: B008
    group_weight=0.0,
    mixing=None,
    accumulate=1,
    rates=(),
):
    """Losses of a short training, the final state, and its shardings."""
    head = head._replace(padded_classes=padded_classes(4, mesh.shape["model"]))
    model = create(name, num_classes=4, image_size=32, head=head, **MODELS[name])
    schedule = make_schedule("cosine", peak=0.01, warmup_steps=1, total_steps=20)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    optimizer, _ = make_optimizer(optimizer, schedule, params, weight_decay=0.05, clip_norm=1.0, rates=rates)
    settings = {"model": model, "optimizer": optimizer, "seed": 0, "ema": ema_decay > 0}
    init = functools.partial(initial_state, {}, **settings)
    shardings = state_shardings(mesh, jax.eval_shape(init), rules)
    views = training_views(image_size=32, scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5, statistics=Normalisation())
    step = make_train_step(
        class_sharded(model, mesh, shardings["params"]),
        optimizer,
        objective=make_objective(make_loss("softmax", num_classes=4), group_weight=group_weight),
        views=views,
        schedule=schedule,
        ema_decay=ema_decay,
        mixing=mixing,
        accumulate=accumulate,
        frozen=frozen_parameters(params, rates),
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
def on_one_device(name, **settings):
    losses, state, _ = train(name, make_mesh(1, devices=jax.devices()[:1]), **settings)
    return losses, jax.device_get(state)


@functools.cache
def on_devices(name, sizes, **settings):
    losses, state, _ = train(name, make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)]), **settings)
    return losses, state


@pytest.mark.parametrize(
    ("name", "sizes", "optimizer"),
    [
        ("vit-Ti/8", (8, 1, 1), "adamw"),
        ("vit-Ti/8", (2, 2, 2), "adamw"),
        ("vit-Ti/8", (1, 1, 2), "adamw"),
        ("vit-Ti/8", (2, 1, 2), "adamw"),
        ("vit-Ti/8", (1, 2, 1), "adamw"),
        ("resnet-18", (2, 1, 4), "adamw"),
        ("vit-S/8", (2, 4, 1), "muon"),
        pytest.param("resnet-18", (2, 4, 1), "adamw", marks=pytest.mark.long),
    ],
)
def test_any_mesh_trains_as_one_device(name, sizes, optimizer):
    check_same_training(on_one_device(name, optimizer=optimizer), on_devices(name, sizes, optimizer=optimizer))


@pytest.mark.parametrize("sizes", [(4, 2, 1), pytest.param((1, 2, 4), marks=pytest.mark.long)])
def test_any_mesh_trains_as_one_device_with_everything_on(sizes):
    settings = {
        "head": HeadSettings("cosine", embedding_size=16, bnneck=True, subcentres=2, num_groups=2),
        "group_weight": 0.5,
        "mixing": MIXING,
        "accumulate": 2,
        # BatchNorm takes away what the biases before it add: their gradient is rounding noise, which AdamW makes large.
        "optimizer": "sgd",
    }
    check_same_training(on_one_device("vit-Ti/8", **settings), on_devices("vit-Ti/8", sizes, **settings))


def test_a_trunk_split_by_rules_trains_as_one_device():
    rules = ((r"mlp\.fc1\.kernel$", (None, "model")), (r"mlp\.fc2\.kernel$", ("model", None)))
    _, state = many = on_devices("vit-Ti/8", (2, 1, 2), rules=rules)
    mlp = state["params"]["blocks"]["0"]["mlp"]
    assert [mlp[name]["kernel"].addressable_shards[0].data.shape for name in ("fc1", "fc2")] == [(48, 96), (96, 48)]
    check_same_training(on_one_device("vit-Ti/8"), many)


def check_same_training(one, many):
    (losses, expected), (sharded_losses, state) = one, many
    params = cut(state["params"], expected["params"])
    np.testing.assert_allclose(sharded_losses, losses, rtol=2e-4)
    # AdamW divides by the gradient's own size, so a weight whose gradient is rounding noise moves by noise: compare
    # the bulk of each tensor.
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected["params"]), strict=True):
        assert np.mean(np.abs(np.asarray(ours) - theirs)) < 2e-3


def test_first_loss_is_that_of_no_knowledge():
    losses, _ = on_one_device("vit-Ti/8")
    np.testing.assert_allclose(losses[0], np.log(4), rtol=1e-5)


def test_fsdp_splits_parameters_and_moments():
    _, state = on_devices("resnet-18", (2, 4, 1))
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


def test_a_batch_in_parts_trains_as_a_whole():
    losses, expected = on_one_device("vit-Ti/8")
    parts = on_one_device("vit-Ti/8", accumulate=4)
    np.testing.assert_allclose(parts[0], losses, rtol=1e-4)
    check_same_training((losses, expected), parts)


def test_labels_follow_the_images_that_are_mixed_in():
    def exchange(key, images):
        partners = jnp.arange(len(images)) ^ 1
        return images[partners], partners, jnp.zeros(len(images))

    def with_itself(key, images):
        return images, jnp.arange(len(images)), jnp.full(len(images), 0.3)

    plain, _ = on_one_device("vit-Ti/8")
    for mixing in (exchange, with_itself):
        np.testing.assert_allclose(train("vit-Ti/8", make_mesh(), mixing=mixing)[0], plain, rtol=2e-4)
    assert not np.allclose(train("vit-Ti/8", make_mesh(), mixing=MIXING)[0], plain, rtol=1e-2)


def test_a_frozen_trunk_stays_and_the_head_learns():
    _, state, _ = train("resnet-18", make_mesh(), steps=2, rates=((r"^(?!fc)", 0.0),))
    _, untrained, _ = train("resnet-18", make_mesh(), steps=0)
    for part, tree in state["params"].items():
        same = [
            np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (tree, untrained["params"][part])), strict=True)
        ]
        assert all(same) if part != "fc" else not any(same)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"ema_decay=1\.0"):
        train("vit-Ti/8", make_mesh(), ema_decay=1.0)
    with pytest.raises(ValueError, match=r"optimizer\.accumulate=0"):
        train("vit-Ti/8", make_mesh(), accumulate=0)


def test_a_step_that_is_not_finite_changes_nothing_when_told_to():
    model = create("resnet-18", num_classes=4, image_size=32, head=HeadSettings(), blocks=(1, 1, 1, 1))
    schedule = make_schedule("constant", peak=0.01, warmup_steps=0, total_steps=20)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    optimizer, _ = make_optimizer("sgd", schedule, params, weight_decay=0.05, clip_norm=1.0)
    plain = make_objective(make_loss("softmax", num_classes=4))

    def objective(outputs, labels, groups):
        return jnp.where(labels == 9, jnp.nan, 1.0) * plain(outputs, labels % 4, groups)

    step = make_train_step(
        model,
        optimizer,
        objective=objective,
        views=training_views(image_size=32, scale=(0.5, 1.0), ratio=(0.75, 1.33), flip=0.5, statistics=Normalisation()),
        schedule=schedule,
        ema_decay=0.9,
        skip_not_finite=True,
    )
    step = jax.jit(step)
    sharding = replicated(make_mesh(1, devices=jax.devices()[:1]))
    settings = {"batch_size": 8, "canvas_size": 36, "loading": Loading(2), "order": TrainingOrder(0, 48)}
    batches = global_batches(SPLIT, sharding=sharding, steps=range(2), report=DecodeReport(), **settings)
    first, second = (batch.device for batch in batches)
    broken = first | {"label": jnp.full_like(first["label"], 9)}

    state, metrics = step(initial_state({}, model=model, optimizer=optimizer, seed=0, ema=True), first)
    assert (metrics["skipped"], math.isfinite(metrics["loss"])) == (0.0, True)
    after, metrics = step(state, broken)
    assert metrics["skipped"] == 1.0
    assert not math.isfinite(metrics["loss"])
    jax.tree.map(np.testing.assert_array_equal, after, state | {"step": state["step"] + 1})
    _, metrics = step(after, second)
    assert (metrics["skipped"], math.isfinite(metrics["loss"])) == (0.0, True)
