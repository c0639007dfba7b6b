"""Classes split over devices: the numbers of one device, and a compiled program in which no device has them all."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from p10k_jax.data.augment import Normalisation, evaluation_views, training_views
from p10k_jax.data.batches import abstract_batch
from p10k_jax.evaluation.predictions import make_predict_step, top_classes
from p10k_jax.models import HeadSettings, Model, create
from p10k_jax.models.heads import CLASSIFIER, Outputs
from p10k_jax.models.padding import cut, pad, padded_classes
from p10k_jax.training.checkpoint import abstract_state
from p10k_jax.training.class_sharding import class_sharded
from p10k_jax.training.losses import make_loss, make_objective
from p10k_jax.training.mesh import batch_sharding, make_mesh, replicated, state_shardings
from p10k_jax.training.optimizer import make_optimizer
from p10k_jax.training.patterns import path_name
from p10k_jax.training.schedules import make_schedule
from p10k_jax.training.state import initial_state
from p10k_jax.training.step import make_train_step

WIDTH, CLASSES = 12, 10  # ten classes: four devices do not divide them
LABELS = np.array([0, 9, 3, 3, 5, 9, 2, 7])
COUNTS = np.array([50, 3, 0, 7, 40, 1, 2, 9, 5, 8])
RANDOM = np.random.RandomState(0)
EMBEDDINGS = RANDOM.randn(8, WIDTH).astype(np.float32)


def head_model(head: HeadSettings) -> Model:
    """A head alone: its images are embeddings."""
    like = create("vit-Ti/8", num_classes=CLASSES, image_size=8, head=head, width=WIDTH, depth=1, heads=1)

    def apply(params, batch_stats, images, **_):
        return Outputs(like.classify(params, images), images), batch_stats

    return like._replace(apply=apply)


def loss_and_gradients(head, loss, mesh=None):
    """The mean loss on fixed embeddings with a fixed head, its gradients by head and embeddings, and the logits."""
    narrow, _ = jax.eval_shape(head_model(head).init, jax.random.key(0))
    random = np.random.RandomState(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.randn(*leaf.shape), jnp.float32), narrow)
    inputs = jnp.asarray(EMBEDDINGS)
    model = head_model(head)
    if mesh:
        model = head_model(head._replace(padded_classes=padded_classes(CLASSES, mesh.shape["model"])))
        wide, _ = jax.eval_shape(model.init, jax.random.key(0))
        shardings = state_shardings(mesh, wide, ())
        params = jax.device_put(pad(params, wide), shardings)
        inputs = jax.device_put(inputs, batch_sharding(mesh))
        model = class_sharded(model, mesh, shardings)

    def of(params, embeddings):
        outputs, _ = model.apply(params, {}, embeddings)
        return loss(outputs.logits, jnp.asarray(LABELS)).mean(), outputs.logits

    step = jax.jit(jax.value_and_grad(of, argnums=(0, 1), has_aux=True))
    (value, logits), (of_params, of_embeddings) = step(params, inputs)
    return value, jax.device_get(cut(of_params, narrow)), np.asarray(of_embeddings), logits, of_params


COSINE = {"margin": "arcface", "scale": 30.0, "class_counts": COUNTS}


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        (HeadSettings(), {"name": "softmax"}),
        (
            HeadSettings(),
            {"name": "softmax", "logit_adjustment": 1.0, "class_weight_power": 0.5, "class_counts": COUNTS},
        ),
        (HeadSettings(), {"name": "sigmoid"}),
        (HeadSettings(), {"name": "focal"}),
        (HeadSettings("cosine"), {"name": "softmax"} | COSINE),
        (HeadSettings("cosine", subcentres=3), {"name": "softmax"} | COSINE | {"margin": "cosface"}),
        (HeadSettings("cosine", subcentres=2), {"name": "focal", "margin_by_frequency": (0.5, 0.25, 0.05)} | COSINE),
        (HeadSettings("cosine"), {"name": "sigmoid"} | COSINE),
    ],
    ids=["softmax", "adjusted", "sigmoid", "focal", "arcface", "cosface", "focal-margins", "sigmoid-arcface"],
)
def test_loss_and_gradients_are_those_of_one_device(head, loss):
    mesh = make_mesh(2, 1, 4)
    given = {"label_smoothing": 0.1} | loss
    plain = loss_and_gradients(head, make_loss(**given))
    split = loss_and_gradients(head, make_loss(**given, num_classes=CLASSES), mesh)
    np.testing.assert_allclose(split[0], plain[0], rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(split[1:3]), jax.tree.leaves(plain[1:3]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())
    assert split[3].sharding.shard_shape(split[3].shape) == (4, 128 // 4)
    np.testing.assert_allclose(split[3][:, :CLASSES], plain[3], rtol=1e-5, atol=1e-5)
    assert bool((np.asarray(split[3])[:, CLASSES:] == -np.inf).all())
    for leaf in jax.tree.leaves(split[4]):
        assert not np.asarray(leaf)[..., CLASSES * head.subcentres :].any(), "padding learns nothing"


def test_padding_changes_no_start():
    for head in (HeadSettings("cosine", subcentres=2), HeadSettings(bias_start=-3.0)):
        narrow = jax.jit(head_model(head).init)(jax.random.key(0))[0]["head"]
        wide = jax.jit(head_model(head._replace(padded_classes=128)).init)(jax.random.key(0))[0]["head"]
        for name, leaf in narrow.items():
            np.testing.assert_array_equal(wide[name][..., : leaf.shape[-1]], leaf)
            assert not wide[name][..., leaf.shape[-1] :].any()


def test_padded_width():
    assert padded_classes(9_691, 1) == 9_691
    assert {padded_classes(9_691, parts) for parts in (2, 4, 8, 128)} == {9_728}  # so that a run moves between these
    assert padded_classes(1_000_000, 3) % 3 == 0
    with pytest.raises(ValueError, match="padded_classes=8 is less than the 10 classes"):
        head_model(HeadSettings(padded_classes=8))


def test_likeliest_classes_are_found_part_by_part():
    mesh = make_mesh(2, 1, 4)
    logits = np.random.RandomState(0).randint(0, 4, (8, 20)).astype(np.float32)  # most are equal to others
    logits[0, :5] = [900, 700, 900, -900, 800]
    placed = jax.device_put(logits, NamedSharding(mesh, P("data", "model")))
    for classes in (20, 17, 3):
        labels, scores = jax.jit(functools.partial(top_classes, num_classes=classes, mesh=mesh))(placed)
        expected = np.argsort(-logits[:, :classes], axis=1, kind="stable")[:, :5]
        np.testing.assert_array_equal(labels, expected)
        exponentials = np.exp(logits[:, :classes].astype(np.float64) - logits[:, :classes].max(1, keepdims=True))
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        np.testing.assert_allclose(scores, np.take_along_axis(probabilities, expected, 1), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", ["vit-Ti/8", "resnet-18", "bit-50x1", "eva02_tiny_patch14_224"])
def test_the_pattern_finds_the_classifier_and_nothing_else(name):
    head = HeadSettings(embedding_size=8, num_groups=3)
    params, _ = jax.eval_shape(create(name, num_classes=77, image_size=224, head=head).init, jax.random.key(0))
    shapes = {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    found = {path: shape for path, shape in shapes.items() if re.search(CLASSIFIER, path)}
    assert sorted(shape[-1] for shape in found.values()) == [77, 77]
    assert sum(77 in shape for shape in shapes.values()) == 2


MILLION = 1_000_000
MESH_OF_A_MILLION = (2, 1, 4)


@functools.cache
def million() -> tuple:
    """Mesh, model, optimizer and abstract state of a catalogue of a million."""
    mesh = make_mesh(*MESH_OF_A_MILLION)
    head = HeadSettings(padded_classes=padded_classes(MILLION, 4))
    model = create("vit-Ti/8", num_classes=MILLION, image_size=16, head=head, width=48, depth=1)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    schedule = make_schedule("cosine", peak=0.01, warmup_steps=1, total_steps=20)
    optimizer, _ = make_optimizer("adamw", schedule, params, weight_decay=0.05, clip_norm=1.0)
    init = functools.partial(initial_state, {}, model=model, optimizer=optimizer, seed=0, ema=True)
    shapes = jax.eval_shape(init)
    state = abstract_state(shapes, state_shardings(mesh, shapes, ()))
    return mesh, model, optimizer, schedule, init, state


def widest(compiled) -> tuple[int, int]:
    """Longest axis of any tensor of the program but of vectors, and elements of its largest."""
    shapes = [tuple(map(int, dims.split(","))) for dims in re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", compiled.as_text())]
    return max(max(shape) for shape in shapes if sum(size > 1 for size in shape) > 1), max(map(np.prod, shapes))


def million_program(what: str):
    mesh, model, optimizer, schedule, init, state = million()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    batch = abstract_batch(16, 20, batch_sharding(mesh))
    split = class_sharded(model, mesh, shardings["params"])
    if what == "start":
        return jax.jit(init, out_shardings=shardings).lower().compile()
    if what == "evaluation":
        views = [evaluation_views(image_size=16, crop=0.0, pad=False, statistics=Normalisation())] * 2
        step = jax.jit(make_predict_step(split, views, num_classes=MILLION, mesh=mesh), out_shardings=replicated(mesh))
        return step.lower(state["params"], state["batch_stats"], batch).compile()
    step = make_train_step(
        split,
        optimizer,
        objective=make_objective(make_loss("softmax", label_smoothing=0.1, num_classes=MILLION)),
        views=training_views(image_size=16, scale=(0.5, 1.0), ratio=(0.75, 1.3), flip=0.5, statistics=Normalisation()),
        schedule=schedule,
        ema_decay=0.9,
    )
    step = jax.jit(step, out_shardings=(shardings, replicated(mesh)), donate_argnums=0)
    return step.lower(state, batch).compile()


@pytest.mark.parametrize(("what", "megabytes"), [("start", 60), ("training", 120), ("evaluation", 50)])
def test_a_million_classes_are_never_on_one_device(what, megabytes):
    """Of batch 16 on 2 x 4 devices, a device has logits float32[8, 250016], 8 MB, and of the kernel 48 MB."""
    compiled = million_program(what)
    longest, largest = widest(compiled)
    share = padded_classes(MILLION, 4) // 4
    assert longest == share
    assert largest <= 48 * share
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < megabytes * 1e6
    assert memory.argument_size_in_bytes < 4.2 * 48e6  # kernel, two moments and the average, a share of each
